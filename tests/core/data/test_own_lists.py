"""Lists of pictures with labels, as spreadsheets and scripts write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_pictures import fill, noise, put

from petl_core.data import load_task
from petl_core.data.card import look
from petl_core.utils import UserError

FILES = [f"images/im{i}.png" for i in range(8)]
LABELS = ["cat", "dog"] * 4
GIVEN = ("train800", "val200", "test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "set", {"images": 8})


def rows(separator: str = ",", *, header: str = "", label_first: bool = False, end: str = "\n") -> str:
    pairs = zip(FILES, LABELS, strict=True)
    lines = [separator.join((label, file) if label_first else (file, label)) for file, label in pairs]
    return end.join([header, *lines] if header else lines) + end


@pytest.mark.parametrize(
    "text",
    [
        rows(),
        rows(header="path,label"),
        rows(header="Filename,Class", end="\r\n"),
        "\ufeff" + rows(header="image,label", end="\r\n"),
        rows("\t", header="file\ttarget"),
        rows(";", header="image_path;class"),
        rows("|", header="img|category"),
        rows(" "),
        rows(",", header="label,file_name", label_first=True),
        rows(";", header="Bild;Klasse"),
        rows(",", header='"image","label"'),
        rows(", ", header="path, label"),
        rows().replace("/", "\\"),
        rows(header="path,label").replace("images/", "C:\\Users\\me\\set\\images\\"),
        rows(header="path,label").replace("images/", ""),
        rows(header="id,breed").replace("images/", "").replace(".png", ""),
        rows(header="path,label").replace("images/", "./images/"),
        rows().replace("images/im0.png,cat", '"images/im0.png","cat"') + "\n\n",
        "".join(f"{i},{f},0.{i},{c}\n" for i, (f, c) in enumerate(zip(FILES, LABELS, strict=True), 1)).join(
            ["number,path,score,label\n", ""]
        ),
    ],
)  # fmt: skip
def test_every_way_to_write_a_list(text: str, root: Path) -> None:
    (root / "labels.csv").write_bytes(text.encode())
    task = load_task(f"folder:{root}/labels.csv", size=8)
    assert task.classes == ("cat", "dog") and [len(task.splits[split]) for split in GIVEN] == [2, 2, 4]
    by_name = dict(zip(task.ids, task.labels.tolist(), strict=True))
    assert by_name == {file: int(label == "dog") for file, label in zip(FILES, LABELS, strict=True)}


def test_utf_16_and_absolute_paths(root: Path) -> None:
    text = rows(header="path,label").replace("images/", f"{root}/images/").replace("cat", "käse")
    (root / "list.tsv").write_bytes(text.encode("utf-16"))
    assert load_task(f"folder:{root}/list.tsv", size=8).classes == ("dog", "käse")


def test_labels_are_text(root: Path) -> None:
    labels = ["01", "1", "1.0", "NA", "nan", "None", "null", "1e5"]
    fill(root, {"images": 24})
    lines = [f"images/im{i}.png,{labels[i % 8]}" for i in range(24)]
    (root / "labels.csv").write_text("path,label\n" + "\n".join(lines))
    assert load_task(f"folder:{root}/labels.csv", size=8).classes == tuple(sorted(labels))


def test_split_and_group_columns(root: Path) -> None:
    splits = ["Train", "Train", "train", "train", "valid", "valid", "TEST", "TEST"]
    lines = [f"{f},{c},{s},p{i // 2}" for i, (f, c, s) in enumerate(zip(FILES, LABELS, splits, strict=True))]
    (root / "labels.csv").write_text("path,label,split,patient\n" + "\n".join(lines))
    task = load_task(f"folder:{root}/labels.csv", size=8)
    assert [len(task.splits[split]) for split in GIVEN] == [4, 2, 2]
    lines = [f"{f},{c},p{i // 2}" for i, (f, c) in enumerate(zip(FILES, LABELS, strict=True))]
    (root / "labels.csv").write_text("path,label,patient\n" + "\n".join(lines))
    task = load_task(f"folder:{root}/labels.csv?group=patient", size=8)
    for split in GIVEN:
        numbers = [int(name[9:-4]) for name in task.split(split)[2]]
        assert {n // 2 for n in numbers} == {n // 2 for n in numbers if n ^ 1 in numbers}
    lines = [f"{f},{c},later" for f, c in zip(FILES, LABELS, strict=True)]
    (root / "labels.csv").write_text("path,label,split\n" + "\n".join(lines))
    with pytest.raises(UserError, match="later"):
        load_task(f"folder:{root}/labels.csv")


def test_all_that_is_wrong_is_named_at_once(root: Path) -> None:
    wrong = ("", "images/im0.png,dog", "images/none.png,cat", "images/im1.png,", "x", "images/im2.png,cat")
    text = rows(header="path,label") + "\n".join(wrong)
    (root / "labels.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        load_task(f"folder:{root}/labels.csv")
    for word in ("im0.png (line 11: dog, before: cat)", "none.png (line 12)", "im1.png (line 13)", "line 14"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"one\ntwo\nthree\n", "one column"),
        (b"path,label\n", "no column|no line|path"),
        (b"name,size,date\nx,1,2\n", "label"),
        (b"images/im0.png,caf\xe9\n", "UTF-8"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)), "UTF-8"),
        (b"path,label\nimages/im0.png,cat\nimages/im1.png,cat\n", "one class"),
        (b'path,label\n"images/im0.png,cat\n', "no such file|line"),
        (b"path,label\n" + b"x" * 300_000 + b".png,cat\n", "field|no such file"),
    ],
)
def test_what_is_no_list(content: bytes, word: str, root: Path) -> None:
    (root / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=word):
        load_task(f"folder:{root}/labels.csv")


def test_an_archive_and_one_name_twice(root: Path) -> None:
    (root.parent / "set.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="archive; unpack"):
        load_task(f"folder:{root.parent}/set.zip")
    put(root / "other/im0.png", noise(5))
    (root / "labels.csv").write_text(rows(header="path,label").replace("images/", ""))
    with pytest.raises(UserError, match=r"im0\.png"):
        load_task(f"folder:{root}/labels.csv")


def test_repeated_lines_are_counted(root: Path) -> None:
    (root / "labels.csv").write_text(rows(header="path,label") + "images/im0.png,cat\n")
    assert "1 left out" in look(f"{root}/labels.csv", 8).text()


def test_lists_of_the_studys_format_with_a_mark_and_backslashes(vtab: Path) -> None:
    before = load_task(f"vtab:{vtab}", size=8)
    text = (vtab / "test.txt").read_text()
    (vtab / "test.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_task(f"vtab:{vtab}", size=8).digest == before.digest
    (vtab / "test.txt").write_text(text.replace("/", "\\"))
    assert load_task(f"vtab:{vtab}", size=8).images.equal(before.images)
