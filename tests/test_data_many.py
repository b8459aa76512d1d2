"""Embedded tasks with other numbers of training images: nested, balanced, disjoint, drawn the same way each time."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from petl_core.data import amounts as many
from petl_core.data import load_task
from petl_core.utils import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "cache"  # drawn once for all tests
    monkeypatch.setenv("PETL_CACHE", str(folder))
    return folder


def pixels(task, split: str) -> set[bytes]:
    return {image.numpy().tobytes() for image in task.split(split)[0]}


def test_smaller_tasks_are_parts_of_larger_ones() -> None:
    tasks = [load_task(f"orientation@{count}") for count in (100, 1000, 1500)]
    assert [len(task.splits["train1000"]) for task in tasks] == [100, 1000, 1500]
    assert [len(task.splits["val200"]) for task in tasks] == [20, 200, 200]
    for small, large in itertools.pairwise(tasks):
        assert set(small.split("train800")[2]) < set(large.split("train800")[2])
        assert pixels(small, "train800") < pixels(large, "train800")
        assert small.split("test")[2] == large.split("test")[2]
        for split in ("train800", "val200"):
            counts = np.bincount(small.split(split)[1])
            assert counts.max() - counts.min() <= 1
    assert len(pixels(tasks[-1], "train800")) == 1300  # all of them different
    assert not pixels(tasks[-1], "train800") & (pixels(tasks[-1], "test") | pixels(tasks[-1], "val200"))


def test_a_thousand_images_are_the_embedded_task() -> None:
    base, again = load_task("textures"), load_task("textures@1000")
    assert set(base.split("train1000")[2]) == set(again.split("train1000")[2])
    assert again.name == "textures@1000" and again.classes == base.classes


def test_drawn_once_the_same_each_time_and_again_where_damaged(cache: Path) -> None:
    digest = load_task("orientation@1200").digest
    path = next(cache.glob("suite*-orientation-00.npz"))
    stamp = path.stat().st_mtime_ns
    assert load_task("orientation@1200").digest == digest
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(path.read_bytes()[:1000])
    assert load_task("orientation@1200").digest == digest  # drawn again, not half read
    assert path.stat().st_mtime_ns != stamp
    assert load_task("orientation@1400").digest != digest


def test_later_blocks_are_other_samples() -> None:
    from petl_core.data.embedded import find_embedded

    task = find_embedded("orientation")
    one, two = many.draw_block(task, 0), many.draw_block(task, 1)
    assert not np.array_equal(one["labels"], two["labels"])
    assert not {x.tobytes() for x in one["levels"]} & {x.tobytes() for x in two["levels"]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("orientation@49", "the number of training images is '49'; it must be from 50 to 20,000"),
        ("orientation@1e4", "the number of training images is '1e4'"),
        ("orientation@-5", "the number of training images is '-5'"),
        ("orientation@", "the number of training images is ''"),
        ("digits@5000", "there are no more than 1,797 digits; this task has at most 1,000 training images"),
        ("orientaton@500", "unknown task 'orientaton'"),
    ],
)
def test_what_there_cannot_be(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task(name)


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write .*file/suite.*choose a folder that is writable"):
        load_task("orientation@1100")
