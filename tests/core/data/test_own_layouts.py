"""The layouts that people and tools write: which folder is a class, which a split, and what is left out."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from made_pictures import fill, noise, put, two

from petl_core.data import load_task
from petl_core.data.card import Card, look
from petl_core.utils import UserError

GIVEN = ("train800", "val200", "test")


def sizes(place: Path | str) -> list[int]:
    task = load_task(f"folder:{place}", size=8)
    return [len(task.splits[split]) for split in GIVEN]


def classes(place: Path | str) -> tuple[str, ...]:
    return load_task(f"folder:{place}", size=8).classes


def kinds(card: Card) -> dict[str, int]:
    return {finding.kind: finding.count for finding in card.findings}


def each(*parts: str, count: int = 5) -> dict[str, int]:
    return {f"{part}/{name}": count for part in parts for name in ("cat", "dog")}


@pytest.mark.parametrize(
    ("places", "expected", "said"),
    [
        ({"cat": 10, "dog": 10}, [8, 2, 10], "no splits"),
        (each("train", "valid", "test"), [10, 10, 10], "valid/ 10 (used as val)"),
        (each("train", "validation", "test"), [10, 10, 10], "validation/ 10 (used as val)"),
        (each("Train", "Val", "Test"), [10, 10, 10], "Train/ 10, Val/ 10, Test/ 10"),
        (each("TRAIN", "TEST"), [8, 2, 10], "val is taken from train"),
        (each("train", "val"), [8, 2, 10], "val/ 10 (used as test)"),
        (each("train", "valid"), [8, 2, 10], "valid/ 10 (used as test)"),
        (each("train", "val", "valid", "test"), [10, 20, 10], "valid/ 10 (used as val)"),
        (each("train"), [4, 2, 4], "no splits"),
        (each("train", "Train", "test"), [16, 4, 10], "Train/ 10, train/ 10, test/ 10"),
        (each("training_set/training_set", "test_set/test_set"), [8, 2, 10], "training_set/ 10"),
        (each("seg_train/seg_train", "seg_test/seg_test"), [8, 2, 10], "seg_test/ 10"),
        (each("train/images", "test/images"), [8, 2, 10], "train/ 10"),
        (each("train2017", "val2017"), [8, 2, 10], "val2017/ 10 (used as test)"),
        (each("data/dataset"), [4, 2, 4], "no splits"),
        (each("images/train", "images/test"), [8, 2, 10], "splits"),
        ({f"{c}/{s}": 5 for c in ("cat", "dog") for s in ("train", "test")}, [8, 2, 10], "splits in them"),
        ({"train": 6, "bus": 6}, [4, 2, 6], "no splits"),  # a railway is a class
        ({"animals/cat": 4, "animals/dog": 4, "vehicles/car": 4, "vehicles/bus": 4}, [6, 2, 8], "no splits"),
    ],
)
def test_layout(places: dict[str, int], expected: list[int], said: str, tmp_path: Path) -> None:
    root = fill(tmp_path / "my set, v1", places)
    assert sizes(root) == expected
    assert said in look(str(root), 8).facts[0]
    assert not {"train", "val", "valid", "test", "Train", "TRAIN"} & set(classes(root)) or "bus" in places


def test_splits_in_classes_of_other_folders(tmp_path: Path) -> None:
    """Splits are never classes; what lies beside them is said."""
    root = fill(tmp_path / "a", each("train", "test") | {"extra": 3})
    put(root / "logo.png")
    assert kinds(look(str(root), 8))["left out"] == 4 and classes(root) == ("cat", "dog")
    fill(tmp_path / "b", each("valid", "test"))
    with pytest.raises(UserError, match="no train/"):
        load_task(f"folder:{tmp_path / 'b'}")
    fill(tmp_path / "c", {"train": 5, "test": 5})
    with pytest.raises(UserError, match="no class folders"):
        load_task(f"folder:{tmp_path / 'c'}")


def test_nested_classes_and_one_folder_too_many_are_said(tmp_path: Path) -> None:
    nested = fill(tmp_path / "a", {"animals/cat": 4, "animals/dog": 4, "vehicles/car": 4, "vehicles/bus": 4})
    card = look(str(nested), 8)
    assert card.classes == ("animals", "vehicles") and kinds(card)["nested classes"] == 2
    assert f"compare {nested}/animals" in card.text()
    high = fill(tmp_path / "b", each("data/dataset"))
    assert f"compare {high}/data/dataset" in look(str(high), 8).text()


@pytest.mark.parametrize(
    "left",
    ["cat/.DS_Store", "Thumbs.db", "cat/Thumbs.db", "desktop.ini", "__MACOSX/cat/._im0.png", ".hidden/im0.png",
     "cat/.ipynb_checkpoints/im0-checkpoint.png", "dog/@eaDir/im0.png", "notes.txt", "annotations/im0.xml",
     "cat/sub/__pycache__/x.png", "result/report.html", "im.png"],
)  # fmt: skip
def test_what_is_hidden_or_no_picture_of_a_class_is_left_out_and_counted(left: str, tmp_path: Path) -> None:
    root = two(tmp_path / "a")
    put(root / left, noise(1), format="PNG") if left.endswith("png") else (root / left).parent.mkdir(
        parents=True, exist_ok=True
    )
    if not left.endswith("png"):
        (root / left).write_bytes(b"something")
    if left.startswith("result"):
        put(root / "result/figure.png")
        (root / "result/table.csv").write_text("a,b\n1,2\n")
    assert sizes(root) == [8, 2, 10]
    assert kinds(look(str(root), 8))["left out"] == 1


def test_own_results_in_the_folder(tmp_path: Path) -> None:
    root = two(tmp_path / "a")
    before = load_task(f"folder:{root}", size=8).digest
    put(root / "result/figure.png")
    (root / "result/records").mkdir()
    (root / "result/records/plan-0123.json").write_text("{}")
    for name in ("report.html", "table.csv"):
        (root / "result" / name).write_text("x")
    assert load_task(f"folder:{root}", size=8).digest == before


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"cat": 5}, ("one class", "cat")),
        ({"cat": 5, "dog": 1}, ("dog", "1 image", "at least 3")),
        ({}, ("no class folders",)),
        (each("train") | {"test/cow": 3}, ("cow", "a/train")),
        ({"Cat": 5, "cat": 5}, ("'Cat'", "'cat'", "case")),
        ({"big cat": 5, "big  cat": 5}, ("'big  cat'", "blanks")),
        (each("train") | {"test/Cat": 3}, ("'Cat'", "'cat'")),
    ],
)
def test_layout_that_cannot_be_used(places: dict[str, int], words: tuple[str, ...], tmp_path: Path) -> None:
    root = fill(tmp_path / "a", places)
    root.mkdir(exist_ok=True)
    with pytest.raises(UserError) as caught:
        load_task(f"folder:{root}", size=8)
    assert all(word in str(caught.value) for word in words)


def test_empty_class_folders(tmp_path: Path) -> None:
    root = two(tmp_path / "a")
    (root / "cow").mkdir()
    with pytest.raises(UserError, match=r"cow.*no images"):
        load_task(f"folder:{root}")
    (root / "cow/im.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    with pytest.raises(UserError, match=r"cow.*no images"):
        load_task(f"folder:{root}")
    split = fill(tmp_path / "b", each("train", "test"))
    put(split / "train/cow/a.png")
    put(split / "train/cow/b.png")
    (split / "test/cow").mkdir()
    assert kinds(look(str(split), 8))["classes never tested"] == 1


def test_labels_in_names_get_a_list_to_write(tmp_path: Path) -> None:
    for name in ("cat_001.jpg", "dog_001.jpg"):
        put(tmp_path / name)
    with pytest.raises(UserError, match=r"path,label\n  cat_001.jpg,cat"):
        load_task(f"folder:{tmp_path}")
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(UserError, match=rf"compare {tmp_path}/labels\.csv"):
        load_task(f"folder:{tmp_path}")


def test_a_folder_of_the_studys_format_and_one_without_any_readable_picture(vtab: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"vtab:{vtab}"):
        load_task(f"folder:{vtab}")
    fill(tmp_path / "b", {"images": 4})
    (tmp_path / "b/labels.csv").write_text("path,label\n")
    with pytest.raises(UserError, match=rf"one class.*compare {tmp_path}/b/labels\.csv"):
        load_task(f"folder:{tmp_path / 'b'}")
    for name in ("cat", "dog"):
        (tmp_path / "a" / name).mkdir(parents=True)
        (tmp_path / "a" / name / "x.png").write_bytes(b"")
    assert "2 of 2 pictures cannot be read" in look(str(tmp_path / "a"), 8).text()


# --- names and links ---


def test_names_of_all_scripts_and_forms(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = fill(tmp_path / "a 😀", {f"train/{composed}": 4, "train/고양이": 4, f"test/{apart}": 4, "test/고양이": 4})
    assert classes(root) == ("café", "고양이")
    assert sizes(root) == [6, 2, 8]
    fill(root, {f"train/{apart}": 2})
    assert sizes(root) == [8, 2, 8] and kinds(look(str(root), 8))["classes spelt in two ways"] == 1


def test_names_that_are_no_text(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 4)
    put(Path(os.fsdecode(os.fsencode(root) + b"/cat/caf\xe9.png")))
    put(root / "dog/line\nbreak\x1b[31m.png")
    fill(root, {"<script>alert(1)<": 4})
    task = load_task(f"folder:{root}", size=8)
    assert any("caf\\xe9" in name for name in task.ids) and all(name.isprintable() for name in task.ids)
    assert task.digest == load_task(f"folder:{root}", size=8).digest
    put(root / ("x" * 200) / ("y" * 240 + ".png"))
    assert "1 image(s)" in "".join(look(str(root), 8).refused)


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 6)
    elsewhere = fill(tmp_path / "b", {"more": 4})
    (root / "cat/linked").symlink_to(elsewhere / "more")
    (root / "cat/loop").symlink_to(root)
    (root / "dog/gone.png").symlink_to(tmp_path / "nothing.png")
    (root / "dog/itself").symlink_to(root / "dog/itself")
    (root / "dog/file.png").symlink_to(elsewhere / "more/im0.png")  # the same picture in two classes
    os.mkfifo(root / "dog/pipe.png")
    task = load_task(f"folder:{root}", size=8)
    assert np.bincount(task.labels).tolist() == [10, 7]
    seen = kinds(look(str(root), 8))
    assert seen["left out"] == 4 and seen["the same in two classes"] == 1


def test_linked_classes_of_given_splits(tmp_path: Path) -> None:
    pool = two(tmp_path / "set/pool", 4)
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir()
        for name in ("cat", "dog"):
            (tmp_path / "set" / part / name).symlink_to(pool / name)
    card = look(str(tmp_path / "set"), 8)
    assert card.counts.sum(axis=0).tolist() == [6, 2, 8] and len(card.leaked) == 8
