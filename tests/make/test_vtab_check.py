"""The check of VTAB-1K's folders, on folders written here: a sound one, and one for each fault."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petl_core.data.vtab import VTAB_SIZES
from petl_core.utils import UserError
from petl_make.vtab import check as vtab1k
from petl_make.vtab.look import BLOCKY, blockiness

SIZES = {"train800.txt": 800, "val200.txt": 200, "test.txt": 40}


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Smooth noise, which JPEG at a low quality leaves in blocks; no two alike."""
    random = np.random.default_rng(0)
    small = random.integers(0, 255, (1040, 6, 6, 3)).astype(np.uint8)
    return [np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in small]


def write(folder: Path, pictures: list[np.ndarray], quality: int | None = None, classes: int = 10) -> Path:
    (folder / "images").mkdir(parents=True)
    number = 0
    for name, count in SIZES.items():
        lines = []
        for _ in range(count):
            image = Image.fromarray(pictures[number])
            if quality is not None:
                image.save(buffer := io.BytesIO(), "JPEG", quality=quality)
                image = Image.open(buffer)
            image.save(folder / "images" / f"{number}.png")
            lines.append(f"images/{number}.png {number % classes}")
            number += 1
        (folder / name).write_text("\n".join(lines) + "\n")
    lists = [(folder / name).read_text() for name in ("train800.txt", "val200.txt")]
    (folder / "train800val200.txt").write_text("".join(lists))
    return folder


@pytest.fixture
def standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """VTAB-1K with a test split that a test can write."""
    monkeypatch.setitem(VTAB_SIZES, "svhn", VTAB_SIZES["svhn"]._replace(test=SIZES["test.txt"]))


@pytest.fixture
def folder(tmp_path: Path, pictures: list[np.ndarray], standard: None) -> Path:
    return write(tmp_path / "svhn", pictures)


def test_the_standard_is_nineteen_tasks_in_three_groups() -> None:
    groups = [task.group for task in VTAB_SIZES.values()]
    assert [groups.count(name) for name in ("natural", "specialised", "structured")] == [7, 4, 8]


def test_a_sound_folder_has_no_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = vtab1k.check(folder)
    assert report.faults == [] and report.notes == [] and report.duplicates == {}
    assert report.look.counts == {"train": 800, "val": 200, "test": 40} and report.look.formats == {"PNG": 1040}
    assert 0.7 < report.look.blockiness < BLOCKY
    assert vtab1k.main([str(folder.parent)]) == 0
    said = capsys.readouterr().out
    assert "svhn: train 800 + val 200 + test 40; 10 classes; 1,040 PNG" in said
    assert "1 tasks, 0 with faults; not there: caltech101, cifar" in said


def test_jpeg_copies_of_a_lossless_task_are_found(tmp_path: Path, pictures: list[np.ndarray], standard: None) -> None:
    report = vtab1k.check(write(tmp_path / "svhn", pictures, quality=20))
    assert report.look.blockiness > BLOCKY
    assert any("went through JPEG" in fault for fault in report.faults)


def test_images_shared_by_splits_are_found(folder: Path) -> None:
    (folder / "images/1005.png").write_bytes((folder / "images/3.png").read_bytes())
    report = vtab1k.check(folder)
    assert report.duplicates == {"train and test": 1}
    assert "1 images with equal pixels are in train and test" in report.faults


def test_wrong_counts_missing_images_and_another_joined_list_are_found(folder: Path) -> None:
    lines = (folder / "train800.txt").read_text().splitlines()
    (folder / "train800.txt").write_text("\n".join(lines[:-1]) + "\n")
    (folder / "images/1007.png").unlink()
    text = str(vtab1k.check(folder))
    assert "799 images in train800.txt; VTAB-1K's svhn has 800" in text
    assert "1 images are missing" in text and "1007.png" in text
    assert "train800val200.txt is not train800.txt and val200.txt together" in text


def test_wrong_classes_and_test_size_are_found(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    report = vtab1k.check(write(tmp_path / "svhn", pictures, classes=9))
    assert "9 classes; VTAB-1K's svhn has 10" in report.faults
    assert "40 images in test.txt; VTAB-1K's svhn has 26,032" in report.faults
    assert vtab1k.main([str(tmp_path)]) == 1


def test_another_task_is_compared_with_nothing(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    report = vtab1k.check(write(tmp_path / "mine", pictures))
    assert report.faults == [] and "not one of VTAB-1K's names" in report.notes[0]


def test_a_damaged_image_and_a_folder_without_lists_are_errors(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "images/5.png").read_bytes()
    (folder / "images/5.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"5\.png is damaged"):
        vtab1k.check(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="a task is a folder with the lists"):
        vtab1k.tasks_in(str(tmp_path / "empty"))


def test_things_in_the_middle_are_no_marks_of_jpeg_and_their_jpeg_copies_have_them() -> None:
    random, grid = np.random.default_rng(0), np.mgrid[:64, :64]
    images = []
    for _ in range(100):
        distance = np.abs(grid - random.normal(31.5, 1.5, (2, 1, 1))).max(axis=0)
        inside = np.clip((random.normal(23.5, 1.5) - distance) / 3 + 0.5, 0, 1)[:, :, None]  # a box with a soft edge
        small = Image.fromarray(random.integers(100, 200, (9, 9, 3)).astype(np.uint8))
        images.append((np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC)) * inside).astype(np.uint8))
    steps = np.mean([np.abs(np.diff(image.mean(2), axis=1)).mean(0) for image in images], axis=0)
    at_edges = np.arange(1, 64) % 8 == 0
    assert steps[at_edges].mean() / steps[~at_edges].mean() > 1.1  # compared with all others they looked so
    assert blockiness(images) < BLOCKY
    copies = []
    for image in images:
        Image.fromarray(image).save(buffer := io.BytesIO(), "JPEG", quality=60)
        copies.append(np.asarray(Image.open(buffer)))
    assert blockiness(copies) > BLOCKY


def test_blockiness_of_steps_at_eight_pixels() -> None:
    blocks = np.kron(np.random.default_rng(0).integers(0, 200, (4, 4)), np.ones((8, 8)))
    noise = np.random.default_rng(1).integers(0, 20, (32, 32))
    image = np.repeat((blocks + noise)[:, :, None], 3, axis=2).astype(np.uint8)
    assert blockiness([image]) > 3
    assert np.isnan(blockiness([image[:8, :8]]))
    two_valued = np.where(np.random.default_rng(2).random((32, 32, 1)) < 0.5, 0, 255).astype(np.uint8)
    assert np.isnan(blockiness([np.repeat(two_valued, 3, axis=2)]))
