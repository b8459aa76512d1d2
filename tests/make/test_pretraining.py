"""How mini was pre-trained: the command's files, its log, and that it continues where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from petl_core.utils import UserError
from petl_make import mini
from petl_make.mini import PretrainRecipe
from petl_make.pretraining import Pretraining, log_of

TINY = PretrainRecipe(width=16, depth=1, heads=1, patch_size=16, epochs=3, batch_size=4)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes, six training images each, in Tiny-ImageNet's layout."""
    folder, random = tmp_path / "images", np.random.default_rng(0)
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("n1\nn0\n")
    rows = []
    for wnid in ("n0", "n1"):
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for i in range(8):
            place = folder / "train" / wnid / "images" if i < 6 else folder / "val" / "images"
            Image.fromarray(random.integers(0, 255, (64, 64, 3), np.uint8)).save(place / f"{wnid}_{i}.JPEG")
            rows += [f"{wnid}_{i}.JPEG\t{wnid}\t0\t0\t9\t9\n"] if i >= 6 else []
    (folder / "val" / "val_annotations.txt").write_text("".join(rows))
    return folder


def test_a_stopped_run_continues_to_the_same_weights(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts, save = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors", Pretraining.save
    mini.pretrain(images, whole, TINY, threads=1)

    def stop(self: Pretraining, epoch: int) -> None:
        save(self, epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Pretraining, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        mini.pretrain(images, parts, TINY, threads=1)
    monkeypatch.setattr(Pretraining, "save", save)
    mini.pretrain(images, parts, TINY, threads=1)
    one, other = load_file(whole), load_file(parts)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert one["head.weight"].shape == (2, 16) and one["head.weight"].dtype == torch.float16
    rows = [json.loads(line) for line in log_of(parts).read_text().splitlines()]
    assert [row.get("epoch", row.get("resumed_after_epoch")) for row in rows[1:]] == [1, 2, 2, 3]
    assert rows[0]["recipe"]["width"] == 16 and not list(tmp_path.glob("*.resume"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither train\.parquet nor wnids\.txt"):
        mini.read_images(tmp_path)
