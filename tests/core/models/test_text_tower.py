"""The text tower of mini_clip and the zero-shot head: the formula, what may be missing, how good the shipped one is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import petl_core as pc
from petl_core.data import Task
from petl_core.data.embedded import SHIFTS
from petl_core.models import text_tower as clip
from petl_core.models.weights import weights_of
from petl_core.training.evaluation import predict
from petl_core.utils import UserError
from petl_make import mini_clip as pretrain_clip
from petl_make.mini_clip import ClipRecipe
from petl_make.pretraining import normalise
from petl_make.world.captions import PROMPTS

TINY = ClipRecipe(
    width=16, depth=1, heads=1, patch_size=16, epochs=2, batch_size=32, out=8, images=96, held=40, start="", photos=0.2
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image tower's file of a tiny pre-training."""
    out = tmp_path_factory.mktemp("clip") / "tiny.safetensors"
    pretrain_clip.pretrain_clip(out, TINY, threads=1)
    return out


def test_a_caption_is_read_alone_and_in_order() -> None:
    torch.manual_seed(0)
    tower = clip.TextTower(clip.TextConfig(("a", "boat", "of", "photo"))).eval()
    torch.testing.assert_close(tower.encode(["a boat"]), tower.encode(["a boat", "a photo of a boat"])[:1])
    torch.testing.assert_close(tower.encode(["a boat"]).norm(), torch.tensor(1.0))
    assert not torch.allclose(tower.encode(["boat of photo"]), tower.encode(["photo of boat"]), atol=1e-6)


def test_the_head_is_clip_up_to_the_length_of_the_feature(world_task: Task) -> None:
    model = pc.create_model("mini_clip", "linear", head="zero_shot").eval()
    images = world_task.split("renditions")[0][:100]
    tower, projection = (
        clip.load_text_tower(clip.text_file("mini_clip")),
        weights_of("mini_clip").tensors["head.weight"],
    )
    with torch.no_grad():
        vectors = []
        for name in world_task.classes:
            rows = [tower.encode([text.format(thing=name)])[0] for text in PROMPTS]
            mean = torch.stack([row / row.norm() for row in rows]).mean(0)
            vectors.append(mean / mean.norm())
        features = model.forward_features(normalise(images)) @ projection.T  # (100, E)
        cosines = F.normalize(features, dim=1) @ torch.stack(vectors).T
        expected = tower.logit_scale.exp() * cosines * features.norm(dim=1, keepdim=True) / tower.feature_norm
    logits = predict(model, images)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(logits.argmax(1), cosines.argmax(1))
    assert 0.5 < float((features.norm(dim=1) / tower.feature_norm).mean()) < 2


@pytest.mark.parametrize("method", ["lora", "full", "bitfit"])
def test_a_saved_model_still_knows_its_zero_shot_start(made: Path, method: str, tmp_path: Path) -> None:
    images = torch.randn(4, 3, 32, 32)
    zero_shot = pc.create_model(str(made), "linear", head="zero_shot").eval()
    model = pc.create_model(str(made), method, head="zero_shot").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
        again = pc.load_adapter(pc.save_adapter(model, tmp_path / "a.safetensors")).eval()
        assert again.spec.head == "zero_shot"
        assert torch.equal(again(images), model(images)) and not torch.equal(model(images), zero_shot(images))
        for tuned in (model, again):
            assert torch.equal(pc.interpolate(tuned, 0.0)(images), zero_shot(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "zero-shot"}, "'zero-shot'.*'new', 'zero_shot'"),
        ({"head": "zero_shot", "num_classes": 10}, "20 classes.*10"),
        ({"head": "zero_shot", "pretrained": False}, "own weights"),
        ({"head": "zero_shot", "pretrained": "other.safetensors"}, "own weights"),
        ({"head": "zero_shot", "keep_head": True}, "own weights"),
        ({"head": "zero_shot", "backbone": "mini"}, "'mini'.*text tower"),
    ],
)
def test_a_head_that_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        pc.create_model(**{"backbone": "mini_clip", "method": "lora", **arguments})


def test_words_and_templates_that_cannot_be(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'a zebra'.*does not know zebra; it knows: a, "):
        clip.zero_shot_head(str(made), ("zebra",), ("a {thing}",))
    with pytest.raises(UserError, match=r"templates that each contain \{thing\}"):
        clip.zero_shot_head(str(made), ("boat",), ("a boat",))
    with pytest.raises(UserError, match="takes 1 to 12 words"):
        clip.zero_shot_head(str(made), ("boat",), ("a " * 12 + "{thing}",))
    with pytest.raises(UserError, match="is no text tower"):
        clip.load_text_tower(made)
    weight, bias = clip.zero_shot_head(str(made), ("boat", "key"), ("a {thing}",))
    assert weight.shape == (2, 16) and not bias.any()


def test_a_model_is_trained_on_the_target_and_evaluated_on_a_shift(world_task: Task) -> None:
    model = pc.create_model("mini_clip", "bitfit", head="zero_shot")
    for split in SHIFTS:
        run = pc.train(model, world_task, pc.Recipe(epochs=1), max_train=32, evaluate_on=split, max_evaluate=20)
        assert run.evaluated_on == split and run.ids[0].startswith(f"world/{split}/") and run.test_accuracy is None


def test_the_shipped_model_names_things_it_was_shown_no_labels_of(world_task: Task) -> None:
    model = pc.create_model("mini_clip", "linear", head="zero_shot")
    for split in ("test", *SHIFTS):
        images, labels, _ = world_task.split(split)
        accuracy = 100 * float((predict(model, images).argmax(1) == labels).float().mean())
        assert accuracy > 20, split  # chance: 5
