"""Wrong names, folders, lists and files: one clear UserError each, that names the place and says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from petl_core.data import Task, embedded, embedded_names, load_task, make_task
from petl_core.utils import EMBEDDED, UserError


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        for i in range(5):
            save(tmp_path / "insects" / name / f"{i}.png", i)
    return tmp_path / "insects"


def says(*words: str):
    return pytest.raises(UserError, match="(?s)" + "".join(f"(?=.*{word})" for word in words))


@pytest.mark.parametrize("name", ["digit", "Textures", "photo-scenes"])
def test_unknown_task_names_the_nearest_and_all(name: str) -> None:
    with says(
        f"unknown task '{name}'",
        "Did you mean (digits|textures|photo_scenes)",
        "Embedded tasks: ",
        "land_cover",
        "folder:",
    ):
        load_task(name)


def test_unknown_task_without_a_near_name() -> None:
    with pytest.raises(UserError) as caught:
        load_task("imagenet21k")
    assert "Did you mean" not in str(caught.value)
    assert "azimuth" in str(caught.value)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_task_name_is_a_string(name: object) -> None:
    with says("a task name is a string"):
        load_task(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, 2.5, "64", True, 10**6])
def test_size_is_a_number_of_pixels(size: object, vtab: Path) -> None:
    with says("size is", "whole number of pixels from 1"):
        load_task(f"vtab:{vtab}", size=size)  # type: ignore[arg-type]


def test_embedded_tasks_have_one_size() -> None:
    with says("digits", "32 pixels only", "size is 64"):
        load_task("digits", size=64)


def test_unknown_group() -> None:
    with says("unknown group 'specialized'", "specialised"):
        embedded_names("specialized")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not a zip", "empty"])
def test_damaged_task_file(damage: str, tmp_path: Path) -> None:
    content = bytearray((EMBEDDED / "science.npz").read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    content = {"truncated": content[: len(content) // 2], "not a zip": b"hello", "empty": b""}.get(damage, content)
    (tmp_path / "science.npz").write_bytes(content)
    with says("science.npz is damaged", "git checkout", "petl_make suite"):
        embedded.load_embedded("science", tmp_path)


def test_task_file_without_an_array_or_absent(tmp_path: Path) -> None:
    with says("science.npz does not exist", "petl_make suite"):
        embedded.load_embedded("science", tmp_path)
    np.savez(tmp_path / "science.npz", labels=np.zeros(3))
    with says("science.npz lacks the arrays", "residuals"):
        embedded.load_embedded("science", tmp_path)
    bad = {
        "labels": np.zeros(3),
        "split": np.zeros(3),
        "residuals": np.zeros((3, 1, 4, 4)),
        "meta": np.frombuffer(b"[]", np.uint8),
    }
    np.savez(tmp_path / "science.npz", **bad)
    with says("science.npz is not a task file"):
        embedded.load_embedded("science", tmp_path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "science.npz", labels=np.array([{}], dtype=object), meta=0, residuals=0, split=0)
    with says("science.npz is damaged", "allow_pickle=False"):
        embedded.load_embedded("science", tmp_path)


def test_make_task_refuses_shared_samples_and_wrong_lengths() -> None:
    def task(group: str = "other", length: int = 4, val: int = 2) -> Task:
        arrays = {"images": np.zeros((4, 3, 2, 2), np.uint8), "labels": np.zeros(length), "ids": ("a", "b", "c", "d")}
        splits = {"train800": np.array([0, 1]), "val200": np.array([val]), "test": np.array([3])}
        return make_task("t", group, ("a",), **arrays, splits=splits)

    assert task().splits["train1000"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="a sample is in two splits"):
        task(val=1)
    with pytest.raises(ValueError, match="4 images, 3 labels"):
        task(length=3)
    with pytest.raises(ValueError, match="group is 'nature'"):
        task("nature")


# --- image folders ---


def test_missing_folder_names_its_neighbours(classes: Path) -> None:
    with says("insect does not exist", "did you mean insects"):
        load_task(f"folder:{classes.parent}/insect")
    with says("zzz does not exist", "holds insects"):
        load_task(f"folder:{classes.parent}/zzz")
    with says("names no folder"):
        load_task("folder:")


# --- lists ---


def test_missing_list_and_bad_line(vtab: Path) -> None:
    lines = (vtab / "train800.txt").read_text()
    (vtab / "train800.txt").write_text(lines + "images/x.png\n")
    with says("train800.txt, line 9", "images/x.png", "path label"):
        load_task(f"vtab:{vtab}", size=8)
    (vtab / "train800.txt").write_text("\n")
    with says("train800.txt", "empty"):
        load_task(f"vtab:{vtab}", size=8)
    (vtab / "train800.txt").unlink()
    with says("train800.txt", "not exist", "val200.txt, test.txt"):
        load_task(f"vtab:{vtab}", size=8)


@pytest.mark.parametrize("label", [2, -1])
def test_label_out_of_range(label: int, vtab: Path) -> None:
    (vtab / "test.txt").write_text(f"images/test/0.png {label}\n")
    with says("labels", str(label), "labels.txt", "0 to 1"):
        load_task(f"vtab:{vtab}", size=8)


def test_label_negative_without_labels_txt(vtab: Path) -> None:
    (vtab / "labels.txt").unlink()
    (vtab / "test.txt").write_text("images/test/0.png -1\n")
    with says("labels", "-1", "0 to 1"):
        load_task(f"vtab:{vtab}", size=8)


def test_class_without_training_images(vtab: Path) -> None:
    (vtab / "labels.txt").write_text("a\nb\nnever\n")
    with says("class 'never'", "no training image"):
        load_task(f"vtab:{vtab}", size=8)


def test_the_same_image_in_two_lists_or_twice(vtab: Path) -> None:
    (vtab / "test.txt").write_text("images/train800/0.png 0\n")
    with says("images/train800/0.png", "train800.txt and test.txt"):
        load_task(f"vtab:{vtab}", size=8)
    (vtab / "test.txt").write_text("images/test/0.png 0\nimages/test/0.png 0\n")
    with says("images/test/0.png", "test.txt twice"):
        load_task(f"vtab:{vtab}", size=8)


def test_vtab1k_without_petl_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PETL_DATA", raising=False)
    with says("PETL_DATA", "not set", "processed VTAB-1K", "github.com"):
        load_task("vtab1k/cifar")


# --- images ---


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image_is_named(suffix: str, vtab: Path) -> None:
    path = save(vtab / f"images/test/cut.{suffix}")
    path.write_bytes(path.read_bytes()[:-200])
    (vtab / "test.txt").write_text(f"images/test/0.png 0\nimages/test/cut.{suffix} 1\n")
    with says(f"images/test/cut.{suffix} is damaged or truncated", "replace the file"):
        load_task(f"vtab:{vtab}", size=8)


def test_missing_or_foreign_image_file(vtab: Path) -> None:
    (vtab / "images/test/2.png").write_text("no image")
    with says("images/test/2.png is not an image"):
        load_task(f"vtab:{vtab}", size=8)
    (vtab / "images/test/2.png").unlink()
    with says("images/test/2.png does not exist"):
        load_task(f"vtab:{vtab}", size=8)


def test_truncated_images_must_not_be_allowed_globally(vtab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with says("LOAD_TRUNCATED_IMAGES"):
        load_task(f"vtab:{vtab}", size=8)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tasks": [{"name": "digits"}]}'])
def test_a_damaged_list_of_the_embedded_tasks(text: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.json").write_text(text)
    with says("tasks.json", "git checkout"):
        embedded.embedded_tasks(tmp_path)
