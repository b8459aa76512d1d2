"""Folders of domains: splits, names without absolute paths, and one clear error for each thing that can be wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from petl_core.data import SPLITS, load_task
from petl_core.models.build import create_model
from petl_core.study.measures import interpolation
from petl_core.training.train import Recipe, train
from petl_core.utils import UserError

CLASSES = {"dog": 20, "horse": 30}


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three domains of two classes, noise of 8 px, below PETL_DATA; and a hidden folder and a file beside them."""
    random = np.random.default_rng(0)
    for domain in ("photo", "sketch", "cartoon"):
        for name, count in CLASSES.items():
            folder = tmp_path / "data/pets" / domain / name
            folder.mkdir(parents=True)
            for i in range(count if domain == "photo" else count // 5):
                Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    (tmp_path / "data/pets/.cache").mkdir()
    (tmp_path / "data/pets/README.md").write_text("not a domain")
    monkeypatch.setenv("PETL_DATA", str(tmp_path / "data"))
    return tmp_path / "data/pets"


def refused(place: str) -> str:
    with pytest.raises(UserError) as caught:
        load_task(place, size=8)
    return str(caught.value)


def test_the_other_domains_are_splits_that_are_only_evaluated_on(pets: Path) -> None:
    task = load_task("shift:pets/photo", size=8)
    assert tuple(task.splits) == (*SPLITS, "cartoon", "sketch")
    assert [len(index) for index in task.splits.values()] == [20, 5, 25, 25, 10, 10]
    assert task.classes == ("dog", "horse")
    for split, counts in {"train800": [8, 12], "val200": [2, 3], "test": [10, 15], "sketch": [4, 6]}.items():
        _, labels, ids = task.split(split)
        assert torch.bincount(labels).tolist() == counts
        assert all(
            i.startswith(("sketch/" if split == "sketch" else "photo/") + task.classes[y])
            for i, y in zip(ids, labels, strict=True)
        )
    image = np.asarray(Image.open(pets / task.ids[-1])).transpose(2, 0, 1)
    assert np.array_equal(task.images[-1].numpy(), image)


def test_the_name_is_the_same_however_the_folder_is_given(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = load_task("shift:pets/photo", size=8)
    given = load_task(f"shift:{pets}/photo/", size=8)
    assert given.name == below.name == "shift:pets/photo"
    assert given.digest == below.digest == load_task(below.name, size=8).digest
    monkeypatch.delenv("PETL_DATA")
    assert load_task(f"shift:{pets}/photo", size=8).name == "shift:pets/photo"
    monkeypatch.chdir(pets)
    assert load_task("shift:./photo", size=8).name == "shift:pets/photo"
    deep = shutil.copytree(pets, pets.parent / "shifts/pets")
    monkeypatch.setenv("PETL_DATA", str(deep.parent.parent))
    assert load_task(f"shift:{deep}/sketch", size=8).name == "shift:shifts/pets/sketch"


def test_a_run_measures_every_domain(pets: Path) -> None:
    task, recipe = load_task("shift:pets/photo", size=8), Recipe(epochs=1)
    model = create_model("mini", "bitfit", num_classes=2, image_size=8)
    train(model, task, recipe)
    assert set(interpolation(model, task, recipe)["both"]) == {"test", "cartoon", "sketch"}


def test_a_name_without_folder_or_domain(pets: Path) -> None:
    for place in ("", "photo", "/photo", "pets/"):
        assert "no folder and train domain" in refused(f"shift:{place}"), place
    assert "did you mean shift:" in refused(f"shift:{pets}")
    text = refused("shift:pets/foto")
    assert "'foto'" in text
    assert "cartoon, photo, sketch" in text


def test_a_folder_that_is_nowhere(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = refused("shift:cats/photo")
    assert "no folder cats" in text and f"PETL_DATA ({pets.parent})" in text
    assert "<domain>/<class>/<image>" in text
    monkeypatch.delenv("PETL_DATA")
    assert "PETL_DATA (not set)" in refused("shift:cats/photo")
    monkeypatch.setenv("PETL_DATA", str(pets / "README.md"))
    assert "PETL_DATA is" in refused("shift:cats/photo")


def test_domains_with_other_classes(pets: Path) -> None:
    (pets / "sketch/dog").rename(pets / "sketch/cat")
    text = refused("shift:pets/photo")
    assert "'sketch'" in text and "lacks dog and has also cat" in text


def test_one_domain_or_one_class(pets: Path) -> None:
    for domain in ("photo", "sketch", "cartoon"):
        shutil.rmtree(pets / domain / "dog")
    assert "one class, 'horse'" in refused("shift:pets/photo")
    shutil.rmtree(pets / "sketch")
    shutil.rmtree(pets / "cartoon")
    assert "one domain, 'photo'" in refused("shift:pets/photo")


def test_a_domain_that_is_called_like_a_split(pets: Path) -> None:
    (pets / "sketch").rename(pets / "test")
    assert "a domain cannot be called test" in refused("shift:pets/photo")
    assert load_task("shift:pets/test", size=8).name == "shift:pets/test"  # the train domain is no split of its own


def test_a_class_with_too_few_images(pets: Path) -> None:
    for file in sorted((pets / "photo/dog").iterdir())[2:]:
        file.unlink()
    assert "class 'dog'" in refused("shift:pets/photo")
    assert "2 image" in refused("shift:pets/photo") and "at least 3" in refused("shift:pets/photo")
    shutil.rmtree(pets / "sketch/horse")
    (pets / "sketch/horse").mkdir()
    assert "no images" in refused("shift:pets/cartoon")


def test_a_truncated_image_is_named(pets: Path) -> None:
    file = pets / "sketch/dog/01.png"
    file.write_bytes(file.read_bytes()[:-40])
    text = refused("shift:pets/photo")
    assert str(file) in text
    assert "damaged or truncated" in text
