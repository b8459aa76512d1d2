"""The trainer: the rates, the seed, what moves, what is evaluated and when, and what a run does that diverges."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from small import easy_task, tiny_model
from torch.optim.optimizer import register_optimizer_step_pre_hook

from petl_core import methods
from petl_core.training.evaluation import predict
from petl_core.training.recipe import Recipe, is_matrix, learning_rate, parameter_groups
from petl_core.training.steps import Gradients
from petl_core.training.train import train
from petl_core.utils import UserError
from petl_core.vit import ViT


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


RECIPE = Recipe(lr=1e-2, epochs=2, batch_size=16, drop_path=0.2, flip=True)
Watch = Callable[[Callable[[torch.optim.Optimizer], None]], None]


@pytest.fixture
def before_each_step() -> Iterator[Watch]:
    """Call it with what should look at the optimiser before each of its steps."""
    hooks = []
    yield lambda look: hooks.append(register_optimizer_step_pre_hook(lambda optimiser, *_: look(optimiser)))
    for hook in hooks:
        hook.remove()


def test_the_optimiser_gets_the_scheduled_rate_at_every_step(before_each_step):
    trace = []
    before_each_step(lambda optimiser: trace.append(optimiser.param_groups[0]["lr"]))
    recipe = Recipe(lr=1e-3, epochs=3, batch_size=32, warmup=0.3)
    run = train(tiny_model(), easy_task(), recipe)
    assert run.steps == len(trace) == 9  # 80 images: 32, 32 and the last incomplete batch of 16
    assert trace == [learning_rate(s, 9, recipe) for s in range(9)]
    assert max(trace) == 1e-3
    assert run.history[-1]["lr"] == trace[-1]


def test_gradients_are_clipped_together_and_small_ones_left_alone(before_each_step, monkeypatch):
    norms, start = [], Gradients.__init__

    def note(optimiser):
        gradients = [p.grad.flatten() for group in optimiser.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())

    def norms_of(recipe):
        norms.clear()
        train(tiny_model("full"), easy_task(), recipe)
        return list(norms)

    def in_pieces(self, *rest):
        start(self, *rest)
        self.micro = 4

    before_each_step(note)
    recipe = Recipe(lr=1e-6, epochs=1, batch_size=16)
    free = norms_of(recipe)
    most = sorted(free)[len(free) // 2]
    clipped = norms_of(dataclasses.replace(recipe, clip_norm=most))
    assert clipped == pytest.approx([min(norm, most) for norm in free], rel=1e-3)
    assert min(clipped) == pytest.approx(min(free), rel=1e-3) and min(free) < most
    monkeypatch.setattr(Gradients, "__init__", in_pieces)  # it is the whole batch's that counts
    assert norms_of(dataclasses.replace(recipe, clip_norm=most)) == pytest.approx(clipped, rel=1e-3)


def test_equal_calls_give_equal_bits_another_seed_does_not_and_the_callers_random_state_stays():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first_model = tiny_model(dropout=0.2)
    first = train(first_model, easy_task(), RECIPE, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)  # the caller's state must not matter
    second_model = tiny_model(dropout=0.2)
    second = train(second_model, easy_task(), RECIPE, seed=3)
    assert first.logits.tobytes() == second.logits.tobytes()
    assert first.history == second.history
    for a, b in zip(first_model.parameters(), second_model.parameters(), strict=True):
        assert torch.equal(a, b)
    other = train(tiny_model(dropout=0.2), easy_task(), RECIPE, seed=4)
    assert other.logits.tobytes() != first.logits.tobytes()


def test_dropout_and_drop_path_are_at_work_in_training_only():
    plain = Recipe(lr=1e-2, epochs=1, batch_size=16)
    still = train(tiny_model(dropout=0.0), easy_task(), plain)
    dropped = train(tiny_model(dropout=0.5), easy_task(), plain)
    stochastic = train(tiny_model(dropout=0.0), easy_task(), Recipe(lr=1e-2, epochs=1, batch_size=16, drop_path=0.5))
    assert len({still.logits.tobytes(), dropped.logits.tobytes(), stochastic.logits.tobytes()}) == 3
    model = tiny_model(dropout=0.5)
    run = train(model, easy_task(), RECIPE)
    assert not model.training
    assert all(block.drop_path1.rate == 0.0 for block in model.blocks)
    again = predict(model, easy_task().split("test")[0], RECIPE)
    assert np.array_equal(again.numpy().astype(np.float16), run.logits)


def test_only_what_is_declared_trainable_moves():
    model = tiny_model("lora")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run = train(model, easy_task(), RECIPE)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    assert run.params == methods.get("lora").count(model.config)


def test_it_learns_and_the_accuracy_is_that_of_the_rounded_logits():
    run = train(tiny_model(), easy_task(), Recipe(lr=2e-2, epochs=12, batch_size=16))
    assert run.accuracy > 80
    assert run.train_accuracy > 80
    assert run.logits.dtype == np.float16
    assert run.logits.shape == (40, 3)
    assert run.accuracy == run.test_accuracy == 100 * np.mean(run.logits.argmax(1) == run.labels)
    assert run.ids == tuple(f"image {i}" for i in range(80, 120))
    assert not run.diverged
    assert run.seconds > 0
    assert run.peak_memory_mb > 0
    assert run.group == "other"


def test_a_trial_never_touches_the_test_images():
    class Guarded(dict):
        def __getitem__(self, name):
            assert name != "test"
            return super().__getitem__(name)

    guarded = dataclasses.replace(easy_task(), splits=Guarded(easy_task().splits))
    run = train(tiny_model(), guarded, RECIPE, train_on="train800", evaluate_on="val200")
    assert run.test_accuracy is None
    assert run.ids == tuple(f"image {i}" for i in range(60, 80))
    with pytest.raises(AssertionError):  # the guard does see an evaluation on test
        train(tiny_model(), guarded, RECIPE)


def test_tracking_keeps_the_best_epoch_apart_and_changes_nothing():
    recipe = Recipe(lr=2e-2, epochs=6, batch_size=16, drop_path=0.2)
    plain, tracked = train(tiny_model(), easy_task(), recipe), train(tiny_model(), easy_task(), recipe, track=True)
    assert plain.best_accuracy is None
    assert tracked.logits.tobytes() == plain.logits.tobytes()
    assert tracked.best_accuracy >= tracked.accuracy
    assert 1 <= tracked.best_epoch <= 6


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_run_that_diverges_ends_and_counts_for_nothing(clip):
    run = train(tiny_model(), easy_task(), Recipe(lr=1e30, epochs=50, batch_size=16, clip_norm=clip))
    assert run.diverged
    assert run.steps < 10
    assert math.isnan(run.accuracy)


@pytest.mark.parametrize(
    ("kind", "mean", "std"),
    [
        ("backbone", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),  # of tiny_model
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("none", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
)
@torch.no_grad()
def test_images_are_normalised_as_the_recipe_says(kind, mean, std):
    images, model = easy_task().split("test")[0], tiny_model("linear")
    mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    expected = model((images.float() / 255 - mean) / std)
    assert torch.allclose(predict(model, images, Recipe(normalise=kind)), expected, atol=1e-5)


def test_flips_are_mirror_images():
    task, batches, model = easy_task(), [], tiny_model()
    model.patch_embed.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0]))
    train(model, task, Recipe(epochs=1, batch_size=80, flip=True, normalise="none"))
    originals = task.split("train1000")[0].float() / 255
    same, flipped = (
        (batches[0].flatten(1)[:, None] - images.flatten(1)).abs().amax(-1).amin(-1) < 1e-5
        for images in (originals, originals.flip(-1))
    )
    assert (same ^ flipped).all()
    assert 20 < flipped.sum() < 60


def moved(before: dict[str, torch.Tensor], model: ViT) -> float:
    """How far the backbone has moved."""
    squares = [
        (p.detach() - before[n]).square().sum() for n, p in model.named_parameters() if not n.startswith("head.")
    ]
    return float(torch.stack(squares).sum().sqrt())


def test_l2_sp_is_its_update_rule_and_holds_the_backbone():
    distances = {}
    for strength in (0.0, 3.0, 300.0):
        model = tiny_model("full")
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        train(model, easy_task(), Recipe(lr=1e-2, epochs=2, batch_size=16, l2_sp=strength))
        distances[strength] = moved(before, model)
    assert 0 < distances[300.0] < 0.3 * distances[3.0] < 0.3 * distances[0.0]
    # one step by hand: AdamW's, then w + lr beta (w0 - w), the head left alone
    free, held = tiny_model("full"), tiny_model("full")
    start = {n: p.detach().clone() for n, p in free.named_parameters()}
    for model, strength in ((free, 0.0), (held, 20.0)):
        train(model, easy_task(), Recipe(lr=1e-2, epochs=1, batch_size=80, warmup=0.0, l2_sp=strength))
    for (name, one), two in zip(free.named_parameters(), held.parameters(), strict=True):
        pull = 0.0 if name.startswith("head.") else 1e-2 * 20.0
        torch.testing.assert_close(two, one + pull * (start[name] - one), msg=name)


def test_l2_sp_needs_unfrozen_backbone_parameters():
    with pytest.raises(UserError, match=r"l2_sp is 1\.0.*unfrozen"):
        train(tiny_model("lora"), easy_task(), Recipe(l2_sp=1.0))


def test_layer_decay_gives_each_depth_its_rate(before_each_step):
    rates = []
    before_each_step(lambda o: rates.append({id(p): group["lr"] for group in o.param_groups for p in group["params"]}))
    model = tiny_model("full")
    recipe = Recipe(lr=1e-3, epochs=1, batch_size=32, layer_decay=0.5)
    train(model, easy_task(), recipe)
    wanted = {"patch_embed.proj.weight": 3, "cls_token": 3, "pos_embed": 3, "blocks.0.mlp.fc1.bias": 2}
    wanted |= {"blocks.1.attn.qkv.weight": 1, "norm.weight": 0, "head.weight": 0}
    for s, at in enumerate(rates):
        assert len(at) == len(list(model.parameters()))
        for name, below in wanted.items():
            rate = learning_rate(s, len(rates), recipe) * 0.5**below
            assert at[id(dict(model.named_parameters())[name])] == pytest.approx(rate, rel=1e-12), name
    groups = parameter_groups(model, dataclasses.replace(recipe, weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {n: decays[id(p)] for n, p in model.named_parameters()} == {
        n: 0.1 if is_matrix(n, p) else 0.0 for n, p in model.named_parameters()
    }


def test_fewer_images_can_be_asked_for():
    run = train(tiny_model(), easy_task(), Recipe(epochs=1, batch_size=8), max_train=20, max_evaluate=10)
    assert run.steps == 3
    assert len(run.labels) == len(run.ids) == 10


@pytest.mark.parametrize(
    ("model", "task", "options", "message"),
    [
        ({"classes": 4}, {}, {}, "num_classes=3"),
        ({}, {"size": 24}, {}, "image_size=24"),
        ({}, {}, {"train_on": "train2000"}, "train2000.*test, train1000, train800, val200"),
        ({}, {}, {"max_train": 0}, "0 images are asked for"),
        ({}, {}, {"seed": -1}, "seed is -1"),
    ],
)
def test_a_model_that_does_not_fit_the_task_is_refused(model, task, options, message):
    with pytest.raises(UserError, match=message):
        train(tiny_model(**model), easy_task(**task), RECIPE, **options)
    with pytest.raises(UserError, match="trainable"):
        train(tiny_model().requires_grad_(False), easy_task(), RECIPE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_in_mixed_precision():
    run = train(tiny_model().cuda(), easy_task(), Recipe(lr=2e-2, epochs=12, batch_size=16))
    assert run.accuracy > 80
