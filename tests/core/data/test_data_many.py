"""The study's many-shot sets, in the layouts in which they are published but smaller: splits, labels, errors."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR100

from petl_core.data import load_task
from petl_core.data.many import SETS, closest_objects
from petl_core.utils import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracies will not compare")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("PETL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def refused(name: str) -> str:
    with pytest.raises(UserError) as caught:
        load_task(name, size=8)
    return str(caught.value)


def write_cifar(data: Path, monkeypatch: pytest.MonkeyPatch, train: int, test: int) -> np.ndarray:
    """``train`` and ``test`` pictures of noise in the published format; torchvision is told their checksums."""
    folder = data / "cifar-100-python"
    folder.mkdir()
    random = np.random.default_rng(0)

    def put(name: str, content: dict) -> str:
        raw = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(raw)
        return hashlib.md5(raw).hexdigest()

    names = [f"class{i:02d}" for i in range(100)]
    sums, kept = {}, None
    for part, count in (("train", train), ("test", test)):
        pixels = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        sums[part] = put(part, {"data": pixels, "fine_labels": [i % 100 for i in range(count)]})
        kept = pixels if kept is None else kept
    meta = put("meta", {"fine_label_names": names})
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": meta})
    assert kept is not None
    return kept


def test_cifar100_grows_by_adding(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar(data, monkeypatch, 5000, 300)
    small, large = load_task("real/cifar100@500", size=32), load_task("real/cifar100@1000", size=32)
    for task, count, n_val in ((small, 500, 100), (large, 1000, 200)):
        assert task.name == f"real/cifar100@{count}" and task.group == "natural" and task.num_classes == 100
        assert [len(index) for index in task.splits.values()] == [count - n_val, n_val, count, 300]
        for split in ("train800", "val200", "test"):  # every class equally often
            assert set(torch.bincount(task.split(split)[1], minlength=100).tolist()) == {len(task.splits[split]) // 100}
        ids = [set(task.split(split)[2]) for split in ("train800", "val200", "test")]
        assert not ids[0] & ids[1] and not ids[0] & ids[2] and not ids[1] & ids[2]
    for split in ("train800", "val200"):
        assert set(small.split(split)[2]) < set(large.split(split)[2])
    assert not set(small.split("train800")[2]) & set(large.split("val200")[2])
    assert small.split("test")[2] == large.split("test")[2] and small.digest != large.digest
    images, labels, ids = small.split("train800")
    number = int(ids[7].removeprefix("train/"))
    assert labels[7] == number % 100 and small.classes[3] == "class03"
    resized = Image.fromarray(pixels[number].reshape(3, 32, 32).transpose(1, 2, 0)).resize(
        (37, 37), Image.Resampling.BICUBIC
    )
    assert np.array_equal(images[7].numpy(), np.asarray(resized.crop((2, 2, 34, 34))).transpose(2, 0, 1))


def test_other_counts_than_the_sets_are_pointed_out(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(data, monkeypatch, 1000, 100)
    with pytest.warns(UserWarning, match=r"cifar100 has 50,000 training and 10,000 test images.* holds 1,000 and 100"):
        load_task("real/cifar100@500", size=8)
    assert "needs 1,000 training images and 10,000 test images" in refused("real/cifar100@1000")


def test_a_cifar100_that_was_changed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(data, monkeypatch, 1000, 100)
    file = data / "cifar-100-python/train"
    file.write_bytes(file.read_bytes() + b"x")
    assert "cifar-100-python is not whole" in refused("real/cifar100@500")


def test_cifar100_as_image_folders(data: Path) -> None:
    for part, count in (("train", 12), ("test", 1)):
        for c in range(100):
            for i in range(count):
                file = data / f"cifar100/{part}/c{c:02d}/{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), (c, i, 0)).save(file)
    task = load_task("real/cifar100@500", size=4)
    assert [len(index) for index in task.splits.values()] == [400, 100, 500, 100]
    images, labels, ids = task.split("train1000")
    assert torch.equal(images[:, 0, 0, 0].long(), labels) and ids[0].startswith("train/c")
    shutil.rmtree(data / "cifar100/test/c05")
    assert "train/ and test/ differ in their classes: c05" in refused("real/cifar100@500")


def test_resisc45_without_and_with_a_list_of_its_test_images(data: Path) -> None:
    for c in range(45):
        for i in range(15):
            file = data / f"NWPU-RESISC45/class_{c:02d}/class_{c:02d}_{i:03d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (c, 10 * i, 0)).save(file)
    task = load_task("real/resisc45@225", size=8)
    assert task.group == "specialised" and [len(index) for index in task.splits.values()] == [180, 45, 225, 135]
    assert set(torch.bincount(task.split("test")[1]).tolist()) == {3}
    assert set(torch.bincount(task.split("train800")[1]).tolist()) == {4}
    chosen = [f"class_{c:02d}/class_{c:02d}_{i:03d}.jpg" for c in range(45) for i in (0, 7)]
    (data / "NWPU-RESISC45/test.txt").write_text("".join(f"{path} {path[6:8]}\n" for path in chosen))
    listed = load_task("real/resisc45@225", size=8)
    assert sorted(listed.split("test")[2]) == chosen and not set(listed.split("train1000")[2]) & set(chosen)
    (data / "NWPU-RESISC45/test.txt").write_text("nowhere/a.jpg 3\n")
    assert "names nowhere/a.jpg, which is not in" in refused("real/resisc45@225")
    (data / "NWPU-RESISC45/test.txt").unlink()
    assert "needs 4,500 training images" in refused("real/resisc45@4500")
    for file in (data / "NWPU-RESISC45/class_07").iterdir():
        file.unlink()
    assert "class_07" in refused("real/resisc45@225")


def write_clevr(data: Path, train: int, val: int) -> None:
    depths = (7.5, 8.2, 8.9, 9.3, 9.9, 12.0)  # one in each interval
    for part, count in (("train", train), ("val", val)):
        (data / f"CLEVR_v1.0/images/{part}").mkdir(parents=True)
        scenes = []
        for i in range(count):
            near = [5.0, 5.0, depths[i % 6]]
            scenes.append(
                {
                    "image_filename": f"CLEVR_{part}_{i:06d}.png",
                    "objects": [{"pixel_coords": [9, 9, 30.0]}, {"pixel_coords": near}],
                }
            )
            Image.new("RGB", (6, 4), (i % 6, 0, 0)).save(data / f"CLEVR_v1.0/images/{part}/CLEVR_{part}_{i:06d}.png")
        (data / "CLEVR_v1.0/scenes").mkdir(exist_ok=True)
        (data / f"CLEVR_v1.0/scenes/CLEVR_{part}_scenes.json").write_text(json.dumps({"info": {}, "scenes": scenes}))


def test_clevr_validates_on_images_that_it_does_not_train_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clevr(data, 2400, 60)
    monkeypatch.setitem(SETS["clevr_dist"].val_of, 600, 60)
    task = load_task("real/clevr_dist@1000", size=4)
    assert task.group == "structured" and task.classes[1] == "8 to 8.5" and task.num_classes == 6
    assert [len(index) for index in task.splits.values()] == [800, 200, 1000, 60]
    assert not set(task.split("train800")[2]) & set(task.split("val200")[2])
    images, labels, _ = task.split("test")
    assert torch.equal(images[:, 0, 0, 0].long(), labels) and torch.bincount(labels).tolist() == [10] * 6
    assert set(load_task("real/clevr_dist@600", size=4).split("train800")[2]) < set(task.split("train800")[2])


def test_clevrs_bounds_are_those_of_vtab(tmp_path: Path) -> None:
    """Class i: the largest i whose bound is below the distance, so that a distance on a bound is in the lower class."""
    depths = [0.1, 8.0, 8.0001, 8.5, 9.0, 9.2, 9.5, 10.0, 10.1, 100.0]
    scenes = [
        {"image_filename": "a", "objects": [{"pixel_coords": [0, 0, d]}, {"pixel_coords": [0, 0, 99]}]}
        for d in depths[:-1]
    ]
    scenes.append({"image_filename": "a", "objects": [{"pixel_coords": [0, 0, 100.0]}]})
    (tmp_path / "s.json").write_text(json.dumps({"scenes": scenes}))
    assert [label for _, label in closest_objects(tmp_path / "s.json")] == [0, 0, 1, 1, 2, 3, 3, 4, 5, 5]


def test_clevr_that_is_not_whole(data: Path) -> None:
    write_clevr(data, 2400, 60)
    (data / "CLEVR_v1.0/images/train/CLEVR_train_000010.png").unlink()
    assert "CLEVR_train_000010.png cannot be read" in refused("real/clevr_dist@1000")
    shutil.copy(
        data / "CLEVR_v1.0/images/train/CLEVR_train_000011.png", data / "CLEVR_v1.0/images/train/CLEVR_train_000010.png"
    )
    scenes = data / "CLEVR_v1.0/scenes/CLEVR_val_scenes.json"
    whole = scenes.read_text()
    scenes.write_text(whole[:-50])
    assert "CLEVR_val_scenes.json cannot be read" in refused("real/clevr_dist@1000")
    scenes.write_text(json.dumps({"scenes": [{"image_filename": "a", "objects": []}]}))
    assert "CLEVR_val_scenes.json cannot be read" in refused("real/clevr_dist@1000")
    scenes.write_text(json.dumps({"scenes": [{"image_filename": "a", "objects": [{"pixel_coords": [0, 0, 200]}]}]}))
    assert "not between 0.0 and 100.0 away" in refused("real/clevr_dist@1000")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("cifar100@500", "cifar-100-python/{train,test,meta}"),
        ("resisc45@225", "NWPU-RESISC45/<class>/<image>.jpg"),
        ("clevr_dist@70000", "CLEVR_{train,val}_scenes.json"),
    ],
)
def test_missing_data_say_where_to_get_them(
    data: Path, name: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = refused(f"real/{name}")
    assert f"the data of 'real/{name}' are not there" in text and str(data) in text and layout in text
    monkeypatch.delenv("PETL_DATA")
    assert "(not set)" in refused(f"real/{name}")


def test_names_that_there_are_not(data: Path) -> None:
    assert "there are: real/cifar100@N, real/resisc45@N" in refused("real/cifar10@500")
    for name in ("cifar100", "cifar100@", "cifar100@501", "cifar100@all"):
        assert "there are real/cifar100@500, real/cifar100@1000" in refused(f"real/{name}")
