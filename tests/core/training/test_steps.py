"""A training step: pieces of a batch, checkpointing, compiling, and how far back gradients reach."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import easy_task, tiny_model
from torch import Tensor, nn

from petl_core import methods
from petl_core.study.records import Records, RunSpec
from petl_core.training import train as train_module
from petl_core.training.feeds import take
from petl_core.training.recipe import Recipe
from petl_core.training.steps import (
    COMPILE_FROM,
    EVALUATION_BATCH,
    Gradients,
    at_work,
    compiling_pays,
    forward_flops,
)
from petl_core.training.train import train
from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BASE = ViTConfig()


def short_of_memory(model: ViT, most: int) -> Counter[int]:
    """From now on the model raises torch's own error for more images than ``most``; counts the sizes that it saw."""
    seen: Counter[int] = Counter()

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        seen[len(inputs[0])] += 1
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.patch_embed.register_forward_pre_hook(look)
    return seen


def gradients_of(model: ViT, recipe: Recipe = Recipe()) -> Gradients:
    return Gradients(model, [p for p in model.parameters() if p.requires_grad], recipe)


def batch(count: int = 30) -> tuple[Tensor, Tensor]:
    images, labels, _ = take(easy_task(), "train800", count)
    return images.float() / 255 - 0.5, labels


@pytest.mark.parametrize("most", [16, 10, 7, 1])
def test_pieces_of_a_batch_add_up_to_its_gradient(most: int) -> None:
    whole, pieces = (gradients_of(tiny_model("full")) for _ in range(2))
    whole.settle(*batch())
    seen = short_of_memory(pieces.network, most)
    random = torch.get_rng_state()
    with pytest.warns(UserWarning, match="30 images at once") as told:
        pieces.settle(*batch())
    assert len(told) == 1  # and not once for each halving
    assert torch.equal(torch.get_rng_state(), random)
    assert whole.micro is None
    assert pieces.micro <= most < 2 * pieces.micro
    expected, got = whole(*batch()), pieces(*batch())
    assert got[0].item() == pytest.approx(expected[0].item(), rel=1e-6)
    assert got[1] == expected[1]
    for one, other in zip(whole.parameters, pieces.parameters, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-5)
    assert max(seen) == 30


def test_a_failure_in_the_backward_pass_leaves_nothing_behind() -> None:
    whole, pieces = (gradients_of(tiny_model("full")) for _ in range(2))
    whole(*batch())
    calls = []

    def fail(gradient: Tensor) -> None:  # by then the gradients of the head are there
        calls.append(len(gradient))
        if len(gradient) > 15:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    pieces.network.norm.register_forward_hook(lambda module, inputs, output: output.register_hook(fail) and None)
    with pytest.warns(UserWarning, match="15 at a time"):
        pieces.settle(*batch())
    pieces(*batch())
    assert calls == [30, 15, 15, 15, 15]
    for one, other in zip(whole.parameters, pieces.parameters, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-5)


def test_a_run_short_of_memory_says_so_in_its_record_and_evaluates_in_smaller_batches(tmp_path, monkeypatch) -> None:
    recipe = Recipe(lr=1e-4, epochs=2, batch_size=32)
    plain = train(tiny_model(dropout=0.0), easy_task(), recipe)
    monkeypatch.setattr(train_module, "NO_TRIAL", ())
    model = tiny_model(dropout=0.0)
    seen = short_of_memory(model, 12)
    with pytest.warns(UserWarning, match="8 at a time"):
        run = train(model, easy_task(), recipe)
    assert run.micro_batch == 8
    assert plain.micro_batch is None
    assert np.abs(run.logits.astype(np.float32) - plain.logits).max() < 1e-3  # float16 logits
    assert run.steps == plain.steps == 6
    assert seen[32] == seen[16] == 1  # found before the first epoch
    assert seen[40] == seen[20] == 1 and seen[10] == 4  # the 40 test images
    spec = RunSpec("mini", "w", "lora", {}, "easy", "d", recipe)
    for name, one in (("short", run), ("plain", plain)):
        records = Records(tmp_path / name)
        records.save(spec, one)
        assert records.get(spec).get("micro_batch") == one.micro_batch
        assert ("micro_batch" in records.get(spec)) == (name == "short")


def test_trying_a_batch_first_changes_no_bit(monkeypatch) -> None:
    recipe = Recipe(lr=1e-2, epochs=2, batch_size=32, drop_path=0.2)
    plain = train(tiny_model(dropout=0.3), easy_task(), recipe)
    monkeypatch.setattr(train_module, "NO_TRIAL", ())
    tried = train(tiny_model(dropout=0.3), easy_task(), recipe)
    assert tried.logits.tobytes() == plain.logits.tobytes()
    assert tried.history == plain.history


def test_memory_that_others_take_during_a_run_is_an_error_that_says_what_to_do() -> None:
    model = tiny_model()
    model.set_drop_path(0.0)
    passes = []

    def taken(module: nn.Module, inputs: tuple[Tensor]) -> None:
        passes.append(len(inputs[0]))
        if len(passes) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.patch_embed.register_forward_pre_hook(taken)
    with pytest.raises(UserError, match=r"memory of cpu.*checkpointing=True"):
        train(model, easy_task(), Recipe(epochs=3, drop_path=0.5))
    assert not model.training and model.blocks[1].drop_path1.rate == 0.0


def test_an_operation_without_a_deterministic_form_is_said_once_and_used() -> None:
    gradients, expected = gradients_of(tiny_model()), gradients_of(tiny_model())

    def complain(module: nn.Module, inputs: tuple[Tensor]) -> None:  # in torch's words
        if gradients.exact:
            raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation")

    gradients.network.norm.register_forward_pre_hook(complain)
    with pytest.warns(UserWarning, match="cumsum_cuda_kernel"):
        gradients.settle(*batch())
    assert gradients(*batch())[0].item() == expected(*batch())[0].item()
    assert gradients.micro is None

    def fail(module: nn.Module, inputs: tuple[Tensor]) -> None:
        raise RuntimeError("another fault")

    gradients.network.norm.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="another fault"):
        gradients.settle(*batch())


def test_one_image_that_does_not_fit_is_refused_in_training_and_in_evaluation() -> None:
    gradients = gradients_of(tiny_model())
    short_of_memory(gradients.network, 0)
    with pytest.raises(UserError, match=r"2\.00 GiB.*checkpointing=True"):
        gradients.settle(*batch())
    model = tiny_model("linear")  # its first pass is one without gradients
    short_of_memory(model, 0)
    with pytest.raises(UserError, match=r"2\.00 GiB"):
        train(model, easy_task(), Recipe(epochs=1))


@pytest.mark.parametrize("method", methods.names())
def test_checkpointing_gives_equal_gradients_and_keeps_less(method: str) -> None:
    found, kept = [], []
    for wanted in (False, True):
        model = tiny_model(method).train()
        recipe, saved = Recipe(drop_path=0.3, checkpointing=wanted), 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with at_work(model, recipe, 0), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = F.cross_entropy(model(batch()[0]), batch()[1])
            kept.append(saved)
            loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        assert "forward" not in vars(model.blocks[0])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-6, msg=name)
    assert kept[1] < kept[0] or method == "linear"


def test_checkpointing_does_not_change_a_run() -> None:
    recipe = Recipe(lr=1e-2, epochs=2, batch_size=16, drop_path=0.2)
    plain = train(tiny_model("convpass"), easy_task(), recipe)
    again = train(tiny_model("convpass"), easy_task(), Recipe(**{**vars(recipe), "checkpointing": True}))
    assert again.logits.tobytes() == plain.logits.tobytes()


@pytest.mark.parametrize(
    ("index", "expected"), [((3,), [False, False, False, True]), ((1, 3), [False, True, True, True])]
)
def test_nothing_is_computed_backwards_below_the_first_trainable_parameter(index, expected) -> None:
    model = tiny_model("selective", depth=4, index=index, part="block").train()
    asked: list[bool] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: asked.append(output.requires_grad))
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    assert asked == expected
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }


def test_operations_of_a_forward_pass_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    assert forward_flops(BASE) == pytest.approx(35.1e9, rel=2e-3)
    config = ViTConfig(32, 8, 24, 3, 2, mlp_ratio=3.0)
    with torch.device("meta"):
        model, images = ViT(config, 1), torch.empty(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    head = 2 * config.width
    assert forward_flops(config) == counter.get_total_flops() - head


def test_long_runs_on_cuda_are_compiled() -> None:
    assert not compiling_pays(BASE, 1000, Recipe(epochs=100), CUDA)  # VTAB-1K
    assert compiling_pays(BASE, 50_000, Recipe(epochs=40), CUDA)  # the whole of CIFAR-100
    assert not compiling_pays(BASE, 50_000, Recipe(epochs=40), CPU)
    assert not compiling_pays(BASE, 50_000, Recipe(epochs=40, compile="off"), CUDA)
    assert not compiling_pays(BASE, 50_000, Recipe(epochs=40, checkpointing=True), CUDA)
    assert compiling_pays(BASE, 10, Recipe(epochs=1, compile="on"), CPU)
    assert 4e5 < COMPILE_FROM / 2 / forward_flops(BASE) < 4.5e5
    assert EVALUATION_BATCH == 250  # the shipped records depend on it


def test_only_whole_batches_go_through_the_compiled_network(monkeypatch) -> None:
    compiled, sizes = torch.compile, []

    def traced(network: nn.Module, mode: str, dynamic: bool) -> object:  # the same graphs without the C++ compiler
        assert mode == "default" and not dynamic
        inner = compiled(network, backend="aot_eager", dynamic=dynamic)
        return lambda x: sizes.append(len(x)) or inner(x)

    monkeypatch.setattr(torch, "compile", traced)
    recipe = Recipe(lr=1e-3, epochs=2, batch_size=32, drop_path=0.1, compile="on")
    run = train(tiny_model(), easy_task(), recipe)
    plain = train(tiny_model(), easy_task(), Recipe(**{**vars(recipe), "compile": "off"}))
    assert sizes == [32] * 4  # of 32, 32 and 16 images, twice
    assert np.abs(run.logits.astype(np.float32) - plain.logits).max() < 2e-3
    sizes.clear()
    train(tiny_model("selective", index=(1,)), easy_task(), Recipe(**{**vars(recipe), "drop_path": 0.0}))
    assert sizes == [32] * 4  # what is left to compute is compiled
    sizes.clear()
    monkeypatch.setattr(train_module, "NO_TRIAL", ())
    model = tiny_model()
    short_of_memory(model, 16)
    with pytest.warns(UserWarning, match="16 at a time"):
        train(model, easy_task(), recipe)
    assert sizes == [32]  # then the graph is given up, because it holds memory


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run() -> None:
    recipe = Recipe(lr=1e-3, epochs=1, batch_size=32)
    plain = train(tiny_model("bitfit", depth=1), easy_task(), recipe)
    run = train(tiny_model("bitfit", depth=1), easy_task(), Recipe(**{**vars(recipe), "compile": "on"}))
    assert np.abs(run.logits.astype(np.float32) - plain.logits).max() < 2e-3


def test_auto_goes_on_without_a_compiler_that_fails_and_on_does_not(monkeypatch) -> None:
    compiled = torch.compile

    def broken(graph: object, inputs: object) -> object:
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(torch, "compile", lambda network, **how: compiled(network, backend=broken))
    gradients, expected = (gradients_of(tiny_model(), Recipe(batch_size=30)) for _ in range(2))
    gradients.compile()
    with pytest.warns(UserWarning, match=r"(?s)torch\.compile.*no C compiler"):
        gradients.settle(*batch())
    assert gradients(*batch())[0].item() == expected(*batch())[0].item()
    asked = gradients_of(tiny_model(), Recipe(batch_size=30, compile="on"))
    asked.compile()
    with pytest.raises(Exception, match="no C compiler"):
        asked.settle(*batch())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("augment", ["none", "clip"])
@pytest.mark.parametrize("compiled", ["off", "on"])
def test_equal_calls_give_equal_bits_on_cuda(compiled: str, augment: str) -> None:
    recipe = Recipe(lr=1e-2, epochs=3, batch_size=32, drop_path=0.1, augment=augment, compile=compiled)
    one, other = (train(tiny_model().cuda(), easy_task(), recipe, seed=3) for _ in range(2))
    assert one.logits.tobytes() == other.logits.tobytes()
    assert one.history == other.history


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_with_graphs_in_bf16_learns_as_plain_float32_does_on_cuda() -> None:
    recipe = Recipe(lr=2e-2, epochs=12, batch_size=16)
    for values in ({"precision": "fp32", "compile": "off"}, {"compile": "on"}):
        run = train(tiny_model(dropout=0.0).cuda(), easy_task(), Recipe(**{**vars(recipe), **values}))
        assert run.accuracy > 80
