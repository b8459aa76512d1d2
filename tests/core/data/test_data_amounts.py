"""Embedded tasks with other numbers of training images: nested, balanced, disjoint. Drawing more: tests/make."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from petl_core.data import load_task
from petl_core.utils import UserError


def pixels(task, split: str) -> set[bytes]:
    return {image.numpy().tobytes() for image in task.split(split)[0]}


def test_smaller_tasks_are_parts_of_larger_ones() -> None:
    tasks = [load_task(f"orientation@{count}") for count in (100, 400, 1000)]
    assert [len(task.splits["train1000"]) for task in tasks] == [100, 400, 1000]
    assert [len(task.splits["val200"]) for task in tasks] == [20, 80, 200]
    for small, large in itertools.pairwise(tasks):
        assert set(small.split("train800")[2]) < set(large.split("train800")[2])
        assert pixels(small, "train800") < pixels(large, "train800")
        assert small.split("test")[2] == large.split("test")[2]
        for split in ("train800", "val200"):
            counts = np.bincount(small.split(split)[1])
            assert counts.max() - counts.min() <= 1
    assert not pixels(tasks[-1], "train800") & (pixels(tasks[-1], "test") | pixels(tasks[-1], "val200"))


def test_a_thousand_images_are_the_embedded_task() -> None:
    base, again = load_task("textures"), load_task("textures@1000")
    assert set(base.split("train1000")[2]) == set(again.split("train1000")[2])
    assert again.name == "textures@1000" and again.classes == base.classes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("orientation@49", "'49'.* from 50 to 20,000"),
        ("orientation@1e4", "'1e4'"),
        ("orientation@-5", "'-5'"),
        ("orientation@", "''"),
        ("digits@5000", "1,797 digits.* at most 1,000"),
        ("world@500", "'world@500'.* 1,000"),
        ("orientaton@500", "unknown task 'orientaton'"),
    ],
)
def test_what_there_cannot_be(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_task(name)


def test_images_that_are_not_drawn_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETL_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="python -m petl_make suite --more orientation@1500"):
        load_task("orientation@1500")
    np.savez(tmp_path / "suite1-orientation-00.npz", levels=np.zeros((9, 1, 32, 32)), labels=np.zeros(9), tints=0)
    with pytest.raises(UserError, match=r"suite1-orientation-00\.npz.* is damaged"):
        load_task("orientation@1500")
