"""ImageNet with few images a class: what is drawn, the shifted sets beside it, and what can be wrong. Five classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from petl_core.data import load_task
from petl_core.utils import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracies will not compare")

CLASSES = ("n01440764", "n01443537", "n01484850", "n02085620", "n02123045")
SHIFTS = {
    "imagenetv2-matched-frequency-format-val": range(5),
    "imagenet-r": (CLASSES[1], CLASSES[3]),
    "imagenet-a": (CLASSES[4], CLASSES[0]),
    "imagenet-sketch": CLASSES,
}


def put(folder: Path, number: int, count: int) -> None:
    """Pictures whose red says the class."""
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (12, 9), (number * 40, i, 0)).save(folder / f"{folder.name}_{i}.png")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, wnid in enumerate(CLASSES):
        put(tmp_path / "imagenet/train" / wnid, number, 16)
        put(tmp_path / "imagenet/val" / wnid, number, 2)
    monkeypatch.setenv("PETL_DATA", str(tmp_path))
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "cache"))
    return tmp_path


def put_shift(data: Path, folder: str) -> None:
    for name in SHIFTS[folder]:
        put(data / folder / str(name), name if isinstance(name, int) else CLASSES.index(name), 3)


def refused(name: str = "imagenet/4shot-seed0") -> str:
    with pytest.raises(UserError) as caught:
        load_task(name, size=8)
    return str(caught.value)


def test_the_same_number_of_each_class_is_drawn(data: Path) -> None:
    task = load_task("imagenet/4shot-seed0", size=8)
    assert task.classes == CLASSES and task.name == "imagenet/4shot-seed0"
    assert {name: len(index) for name, index in task.splits.items()} == {
        "train800": 20, "val200": 50, "train1000": 70, "test": 10,
    }  # fmt: skip
    for split, count in (("train800", 4), ("val200", 10), ("test", 2)):
        images, labels, ids = task.split(split)
        assert torch.bincount(labels).tolist() == [count] * 5 and torch.equal(images[:, 0, 4, 4].long(), labels * 40)
        assert all(CLASSES[y] in i for y, i in zip(labels.tolist(), ids, strict=True))
    assert not set(task.split("train800")[2]) & set(task.split("val200")[2])


def test_fewer_shots_are_part_of_more_and_seeds_differ(data: Path) -> None:
    two, four, other = (load_task(f"imagenet/{n}", size=8) for n in ("2shot-seed0", "4shot-seed0", "4shot-seed1"))
    assert set(two.split("train800")[2]) < set(four.split("train800")[2])
    assert set(two.split("val200")[2]) == set(four.split("val200")[2])
    assert set(other.split("train800")[2]) != set(four.split("train800")[2])
    assert four.digest != other.digest and four.digest == load_task("imagenet/4shot-seed0", size=8).digest


def test_shifted_sets_are_splits_where_they_are_there(data: Path) -> None:
    for folder in SHIFTS:
        put_shift(data, folder)
    task = load_task("imagenet/4shot-seed0", size=8)
    assert tuple(task.splits)[4:] == ("v2", "r", "a", "sketch")
    for split, count in (("v2", 15), ("r", 6), ("a", 6), ("sketch", 15)):
        images, labels, _ = task.split(split)
        assert len(labels) == count and torch.equal(images[:, 0, 4, 4].long(), labels * 40)
    assert {split: index.tolist() for split, index in task.allowed.items()} == {"r": [1, 3], "a": [0, 4]}
    logits = torch.arange(5.0).repeat(2, 1)
    assert task.restrict("r", logits).argmax(1).tolist() == [3, 3] and task.restrict("v2", logits).argmax(1)[0] == 4


def test_the_drawn_list_and_the_packs_stay(data: Path) -> None:
    before = load_task("imagenet/4shot-seed0", size=8)
    for wnid in CLASSES:
        shutil.rmtree(data / "imagenet/train" / wnid)
    after = load_task("imagenet/4shot-seed0", size=8)
    assert after.digest == before.digest and torch.equal(after.split("train800")[0], before.split("train800")[0])


def test_names_and_missing_folders(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("imagenet/", "imagenet/100shot", "imagenet/0shot-seed0", "imagenet/full"):
        assert "write imagenet/<images a class>shot-seed<number>" in refused(name)
    (data / "imagenet/val").rename(data / "imagenet/validation")
    assert "val: it does not exist" in refused() and "imagenet/val/<WordNet id>/*.JPEG" in refused()
    (data / "imagenet").rename(data / "images")
    assert f"not below PETL_DATA ({data})" in refused()
    monkeypatch.delenv("PETL_DATA")
    assert "PETL_DATA (not set)" in refused()


def test_the_layout_of_the_challenge(data: Path) -> None:
    (data / "new/ILSVRC/Data").mkdir(parents=True)
    (data / "imagenet").rename(data / "new/ILSVRC/Data/CLS-LOC")
    (data / "new").rename(data / "imagenet")
    assert load_task("imagenet/4shot-seed0", size=8).num_classes == 5


def test_validation_images_that_are_not_sorted(data: Path) -> None:
    for wnid in CLASSES[1:]:
        shutil.rmtree(data / "imagenet/val" / wnid)
    assert "1 of the 5 class folders" in refused()
    shutil.rmtree(data / "imagenet/val" / CLASSES[0])
    assert "no class folders" in refused()


def test_classes_that_are_short_empty_or_unknown(data: Path) -> None:
    assert "has 16 images; 7 to train and 10 to validate with are needed: choose at most 6" in refused(
        "imagenet/7shot-seed0"
    )
    put_shift(data, "imagenet-r")
    (data / "imagenet-r" / CLASSES[1]).rename(data / "imagenet-r/n99999999")
    assert "imagenet-r: the classes n99999999" in refused()
    shutil.rmtree(data / "imagenet-r")
    put_shift(data, "imagenetv2-matched-frequency-format-val")
    (data / "imagenetv2-matched-frequency-format-val/4").rename(data / "imagenetv2-matched-frequency-format-val/12")
    assert "the classes 12 are not in train/" in refused()
    shutil.rmtree(data / "imagenetv2-matched-frequency-format-val")
    for file in (data / "imagenet/val" / CLASSES[2]).iterdir():
        file.unlink()
    assert f"{CLASSES[2]}: it has no images" in refused()


def test_a_truncated_image_is_named(data: Path) -> None:
    file = data / f"imagenet/val/{CLASSES[3]}/{CLASSES[3]}_1.png"
    file.write_bytes(file.read_bytes()[:-30])
    assert f"{file.name} is damaged or truncated" in refused()
    Image.new("RGB", (12, 9)).save(file)
    assert len(load_task("imagenet/4shot-seed0", size=8).splits["test"]) == 10
