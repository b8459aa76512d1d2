"""``pc.predict``: images are prepared as in training, answers have names, what cannot be read is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import petl_core as pc
from petl_core import cli
from petl_core.data.load import load_task
from petl_core.training.train import predict as logits_of
from petl_core.utils import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of oblong pictures, of which some are turned by their EXIF tag."""
    place, random = tmp_path_factory.mktemp("pictures") / "mine", np.random.default_rng(0)
    for label in ("sun", "moon"):
        (place / label).mkdir(parents=True)
        for i in range(8):
            pixels = random.integers(0, 150, (40, 60, 3), dtype=np.uint8)
            pixels[..., label == "sun"] += 90
            exif = Image.Exif()
            exif[0x0112] = 6 if i % 2 else 1
            Image.fromarray(pixels).save(place / label / f"{i}.jpg", exif=exif)
    return place


@pytest.fixture(scope="module")
def saved(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = load_task(f"folder:{folder}", size=32)
    model = pc.create_model("mini", "lora", num_classes=2)
    pc.train(model, task, pc.Recipe(lr=1e-2, epochs=2, batch_size=8), evaluate_on="val200")
    notes = {"classes": list(task.classes), "preparation": dataclasses.asdict(task.preparation)}
    return pc.save_adapter(model, tmp_path_factory.mktemp("model") / "model.safetensors", notes)


def test_files_give_the_logits_that_they_gave_in_training(folder: Path, saved: Path):
    task, model = load_task(f"folder:{folder}", size=32), pc.load_adapter(saved)
    answers = pc.predict(saved, folder, top=2).set_index("image")
    expected = torch.softmax(logits_of(model, task.images), dim=1)
    for name, row in zip(task.ids, expected, strict=True):
        found = answers.loc[name]
        assert found["class"] == task.classes[int(row.argmax())]
        assert found["probability"] == pytest.approx(float(row.max()), abs=1e-6)
        assert found["probability"] + found["probability_2"] == pytest.approx(1, abs=1e-6)
    squares = pc.predict(model, task.images)
    assert list(squares["class"]) == [answers.loc[name, "class"] for name in task.ids]


def test_pictures_and_paths_give_the_same_as_the_folder(folder: Path, saved: Path):
    files = sorted((folder / "sun").iterdir())
    by_path = pc.predict(saved, files)
    by_picture = pc.predict(saved, [Image.open(file) for file in files])
    pd.testing.assert_series_equal(by_path["probability"], by_picture["probability"])
    assert list(pc.predict(saved, files[0])["image"]) == [str(files[0])]


def test_what_cannot_be_read_is_named_among_the_rest(folder: Path, saved: Path, tmp_path: Path, capsys):
    good = sorted((folder / "sun").iterdir())[:2]
    (tmp_path / "cut.jpg").write_bytes(good[0].read_bytes()[:400])
    answers = pc.predict(saved, [good[0], tmp_path / "cut.jpg", good[1]])
    assert list(answers["problem"] == "") == [True, False, True] and "cut.jpg" in answers["problem"][1]
    assert answers["class"].notna().tolist() == [True, False, True]
    out = tmp_path / "answers.csv"
    assert cli.main(["predict", str(saved), str(good[0]), str(tmp_path / "cut.jpg"), "--csv", str(out)]) == 1
    assert len(pd.read_csv(out)) == 2
    assert cli.main(["predict", str(saved), str(folder / "moon")]) == 0 and "moon" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("images", "top", "word"),
    [
        ("nowhere", 1, "nowhere"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 1, "uint8"),
        (torch.zeros(1, 3, 32, 32), 1, "float32"),
        ([], 3, "from 1 to 2"),
    ],
)
def test_bad_input(images, top: int, word: str, saved: Path):
    with pytest.raises(UserError, match=word):
        pc.predict(saved, images, top)


def test_the_command_exports(saved: Path, tmp_path: Path, capsys):
    assert cli.main(["export", str(saved), str(tmp_path / "model.safetensors")]) == 0
    assert "`moon`" in (tmp_path / "model.md").read_text()
    assert cli.main(["export", str(saved), str(tmp_path / "model.tflite")]) == 2
    assert "tflite" in capsys.readouterr().err
