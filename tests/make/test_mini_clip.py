"""How mini_clip was pre-trained: the loss, the files and the log, and that it continues where it was stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from petl_core.utils import EMBEDDED
from petl_make import mini_clip
from petl_make.mini_clip import ClipRecipe, Towers
from petl_make.pretraining import Pretraining, log_of

TINY = ClipRecipe(
    width=16, depth=1, heads=1, patch_size=16, epochs=2, batch_size=32, out=8, images=96, held=40, start="", photos=0.2
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image tower's file of a tiny pre-training."""
    out = tmp_path_factory.mktemp("clip") / "tiny.safetensors"
    mini_clip.pretrain_clip(out, TINY, threads=1)
    return out


def test_the_loss_is_the_mean_of_both_directions() -> None:
    torch.manual_seed(0)
    towers = Towers(TINY).eval()
    images, numbers = (
        torch.randn(5, 3, 32, 32),
        towers.text.numbers(["a boat", "a key", "my cup", "the car", "for sale"]),
    )
    a, b = F.normalize(towers.image(images), dim=1), towers.text(numbers)
    cosines = torch.stack([torch.stack([x @ y for y in b]) for x in a]) / 0.07
    one = -sum(torch.log_softmax(cosines[i], 0)[i] for i in range(5)) / 5
    other = -sum(torch.log_softmax(cosines[:, i], 0)[i] for i in range(5)) / 5
    torch.testing.assert_close(towers.loss(images, numbers), (one + other) / 2, rtol=1e-4, atol=1e-4)


def test_pretraining_leaves_files_and_a_log(made: Path) -> None:
    rows = [json.loads(line) for line in log_of(made).read_text().splitlines()]
    assert rows[0]["recipe"]["images"] == 96 and [row["epoch"] for row in rows[1:]] == [1, 2]
    assert {"train_loss", "val_accuracy", "val_photos", "logit_scale", "seconds"} <= set(rows[1])
    assert sorted(path.name for path in made.parent.iterdir()) == [
        "tiny.safetensors", "tiny_log.jsonl", "tiny_text.safetensors",
    ]  # fmt: skip
    assert not load_file(made)["head.bias"].any()


def test_an_interrupted_pretraining_continues_to_the_same_weights(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save = tmp_path / "tiny.safetensors", Pretraining.save

    def stop(self: Pretraining, epoch: int) -> None:
        save(self, epoch)
        raise KeyboardInterrupt

    monkeypatch.setattr(Pretraining, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        mini_clip.pretrain_clip(out, TINY, threads=1)
    monkeypatch.setattr(Pretraining, "save", save)
    mini_clip.pretrain_clip(out, TINY, threads=1)
    assert '"resumed_after_epoch": 1' in log_of(out).read_text()
    for name in ("tiny.safetensors", "tiny_text.safetensors"):
        one, other = load_file(made.with_name(name)), load_file(out.with_name(name))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), name


def test_the_shipped_log_is_of_the_recipe_in_the_code() -> None:
    rows = [json.loads(line) for line in log_of(EMBEDDED / "mini_clip.safetensors").read_text().splitlines()]
    assert rows[0]["recipe"] == asdict(ClipRecipe())
    assert [row["epoch"] for row in rows[1:]] == list(range(1, ClipRecipe().epochs + 1))
