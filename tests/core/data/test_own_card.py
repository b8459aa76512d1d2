"""What is in a set of people's own images: the split that follows, what the data card says, and the command for it."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_pictures import fill, noise, put, two
from PIL import Image, ImageEnhance

from petl_core.cli import main
from petl_core.data import load_task
from petl_core.data.card import Card, look
from petl_core.data.split import by_pattern, parted
from petl_core.utils import UserError

GIVEN = ("train800", "val200", "test")


def kinds(card: Card) -> dict[str, int]:
    return {finding.kind: finding.count for finding in card.findings}


def sides(place: str) -> dict[str, str]:
    """The split of each picture by its name."""
    task = load_task(f"folder:{place}", size=8)
    return {name: split for split in GIVEN for name in task.split(split)[2]}


# --- the split ---


def test_each_class_is_trained_before_any_is_chosen_with() -> None:
    """1,000 classes of four: 2,000, 1,000 and 1,000 images, and each class in every split."""
    labels = np.repeat(np.arange(1000), 4)
    part = parted(labels, np.arange(4000), (0.6, 0.25, 0.15))
    assert all(set(labels[part == number].tolist()) == set(range(1000)) for number in range(3))
    labels = np.repeat(np.arange(10), 3)
    assert Counter(parted(labels, np.arange(30), (0.4, 0.5, 0.1)).tolist()) == {0: 10, 1: 10, 2: 10}
    many = np.repeat(np.arange(50), 2000)
    shares = np.bincount(parted(many, np.arange(100_000), (0.8, 0.1, 0.1))) / 100_000
    assert shares.tolist() == [0.8, 0.1, 0.1]


def test_groups_stay_whole_and_classes_in_proportion() -> None:
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 4, 2000), random.integers(0, 200, 2000)
    part = parted(labels, groups, (0.4, 0.5, 0.1))
    assert all(len(set(part[groups == group].tolist())) == 1 for group in range(200))
    for label in range(4):
        shares = np.bincount(part[labels == label], minlength=3) / (labels == label).sum()
        assert np.abs(shares - [0.4, 0.5, 0.1]).max() < 0.06


def test_copies_and_near_copies_stay_on_one_side(tmp_path: Path) -> None:
    for i in range(20):
        picture = noise(i, 64, 64)
        put(tmp_path / f"a/{'cat' if i % 2 else 'dog'}/{i}.png", picture)
        put(tmp_path / f"a/{'cat' if i % 2 else 'dog'}/{i}_again.jpg", picture.resize((50, 50)), quality=85)
        put(tmp_path / f"a/{'cat' if i % 2 else 'dog'}/{i}_copy.bmp", picture)
        brighter = ImageEnhance.Brightness(picture).enhance(1.08)
        put(tmp_path / f"a/{'cat' if i % 2 else 'dog'}/{i}_brighter.jpg", brighter, quality=40)
    side = sides(str(tmp_path / "a"))
    assert len(side) == 80
    assert all(len({s for name, s in side.items() if Path(name).stem.split("_")[0] == str(i)}) == 1 for i in range(20))
    seen = kinds(look(str(tmp_path / "a"), 32))
    assert seen["the same on one side"] == 20 and seen["nearly the same on one side"] == 60


def test_flat_pictures_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path / f"a/red/{i}.png", Image.new("RGB", (32, 32), (30 + 22 * i, 0, 0)))
        put(tmp_path / f"a/blue/{i}.png", Image.new("RGB", (32, 32), (0, 0, 30 + 22 * i)))
    assert not any("same" in kind for kind in kinds(look(str(tmp_path / "a"), 32)))


def test_a_class_of_one_picture_over_and_over_is_parted_all_the_same_and_said(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path / f"a/red/{i}.png", Image.new("RGB", (32, 32), "red"))
        put(tmp_path / f"a/noise/{i}.png", noise(i))
    card = look(str(tmp_path / "a"), 32)
    assert not card.refused and kinds(card)["copies across splits"] == 5 == len(card.leaked)


# --- copies in given splits, and in two classes ---


def test_copies_across_given_splits(tmp_path: Path) -> None:
    root = fill(tmp_path / "a", {f"{part}/{name}": 5 for part in ("train", "test") for name in ("cat", "dog")})
    for i in range(4):
        Image.open(root / f"train/cat/im{i}.png").save(root / f"test/cat/copy{i}.bmp")
    card = look(str(root), 32)
    assert kinds(card)["copies across splits"] == 4 and card.leaked == tuple(f"test/cat/copy{i}.bmp" for i in range(4))
    assert "4 the same" in card.text() and "14 test pictures, 10 without them" in card.text()
    assert "test/cat/copy0.bmp = train/cat/im0.png" in card.text()


def test_one_picture_in_two_classes(tmp_path: Path) -> None:
    root = two(tmp_path / "a")
    put(root / "dog/x.png", Image.open(root / "cat/im0.png"))
    card = look(str(root), 32)
    assert kinds(card)["the same in two classes"] == 1 and "! the same picture in two classes" in card.text()


# --- groups ---


def test_groups_in_names_are_suspected_and_kept_together_on_request(tmp_path: Path) -> None:
    for patient in range(1, 9):
        for i in range(5):
            put(tmp_path / f"a/{'ill' if i % 2 else 'well'}/patient{patient:02d}_{i}.png")
    root = str(tmp_path / "a")
    card = look(root, 32)
    assert kinds(card)["suspected groups"] >= 7 and r'--group "patient\d+"' in card.text()
    side = sides(f"{root}?group=patient%5Cd%2B")
    assert all(len({s for name, s in side.items() if f"patient0{p}" in name}) == 1 for p in range(1, 9))
    assert "suspected groups" not in kinds(look(f"{root}?group=patient%5Cd%2B", 32))


@pytest.mark.parametrize(("pattern", "word"), [("(", "no regular expression"), ("doctor", "found in no name")])
def test_patterns_that_cannot_be(pattern: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        by_pattern(pattern, ["a/patient1_2.png"])


def test_exposures_of_one_series_are_suspected(tmp_path: Path) -> None:
    start = datetime.datetime(2024, 5, 1, 12)
    for i in range(40):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = (start + datetime.timedelta(seconds=2 * i)).strftime("%Y:%m:%d %H:%M:%S")
        put(tmp_path / f"a/{'cat' if i % 2 else 'dog'}/{i}.jpg", exif=exif)
    assert kinds(look(str(tmp_path / "a"), 32))["suspected series"] > 5


# --- classes ---


def test_uneven_rare_and_numbered_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "a", {"1": 40, "2": 20, "10": 4})
    card = look(str(root), 32)
    seen = kinds(card)
    assert seen["uneven classes"] == 10 and seen["rare classes"] == 1 and seen["classes that look like numbers"] == 3
    assert card.classes == ("1", "10", "2") and "1 40" in card.text() and "10:1" in card.text()


def test_classes_that_are_never_tested(tmp_path: Path) -> None:
    root = fill(tmp_path / "a", {"train/cat": 5, "train/dog": 5, "val/cat": 3, "test/cat": 5})
    card = look(str(root), 32)
    assert kinds(card)["classes never tested"] == kinds(card)["classes never chosen with"] == 1
    assert load_task(f"folder:{root}", size=8).classes == ("cat", "dog")


# --- the card ---


def test_facts(tmp_path: Path) -> None:
    root = fill(tmp_path / "flowers", {"rose": 12, "lily": 6})
    put(root / "rose/long.jpg", noise(3, 40, 200))
    put(root / "lily/grey.png", noise(4).convert("L"))
    text = look(str(root), 32).text()
    for words in (
        "flowers: 20 pictures in 2 classes; class folders, no splits",
        "train 8, val 2, test 10",
        "rose 13 (5 + 1 + 7), lily 7 (3 + 1 + 3); 1.86:1; always answering rose: 70 %",
        "PNG 19, JPEG 1; RGB 19, grey 1; 40 x 40 to 200 x 40, median 40 x 40",
        "crop: short side to 37 px",
        "85 % at worst; 1 beyond 2:1, another way: --resize pad",
    ):
        assert words in text


def test_all_files_are_listed_on_request(tmp_path: Path) -> None:
    root = two(tmp_path / "a")
    for i in range(9):
        (root / f"cat/note{i}.txt").write_text("x")
    card = look(str(root), 32)
    assert "and 4 more" in card.text() and "note8.txt" not in card.text()
    assert "note8.txt" in card.text(everything=True)


def test_a_scan_is_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = two(tmp_path / "a")
    first = look(str(root), 32)
    monkeypatch.setattr("petl_core.data.scan.look", lambda *_: pytest.fail("looked again"))
    assert look(str(root), 32).text() == first.text()
    put(root / "cat/im0.png", noise(5, 50, 50))
    with pytest.raises(pytest.fail.Exception):
        look(str(root), 32)


# --- the command ---


def test_look_prints_the_card_and_ends_with_0_or_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two(tmp_path / "a b,c")
    before = sorted(tmp_path.rglob("*"))
    assert main(["compare", str(root), "--look"]) == 0
    assert "20 pictures in 2 classes" in capsys.readouterr().out and sorted(tmp_path.rglob("*")) == before
    (root / "cat/bad.png").write_bytes(b"")
    assert main(["compare", str(root), "--look", "--all"]) == 2
    out = capsys.readouterr().out
    assert "1 unreadable" in out and "no comparison is possible" in out
    assert main(["compare", str(tmp_path / "none"), "--look"]) == 2
    assert main(["compare", "digits", "--look"]) == 2 and "another task" in capsys.readouterr().err
    assert main(["compare", "digits", "--resize", "pad"]) == 2


def test_printing_names_where_the_terminal_cannot(tmp_path: Path) -> None:
    root = fill(tmp_path / "кошки", {"고양이": 5, "caf\u0301e": 5})
    command = [sys.executable, "-m", "petl_core", "compare", str(root), "--look"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
