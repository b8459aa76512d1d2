"""Packs of VTAB-1K made from folders, and that a pack gives the task that the folder gives.

Through tensorflow-datasets and from the Hub: data_extra, in an environment of its own (make test-data).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petl_core.data import array_pack
from petl_core.data.vtab import VTAB_SIZES
from petl_core.utils import UserError
from petl_make import __main__ as petl_make
from petl_make.vtab import check as vtab1k
from petl_make.vtab import look
from petl_make.vtab import prepare as vtab_prepare
from petl_make.vtab.sources import Encoded
from petl_make.vtab.tasks import TASKS

PARTS = {"train800.txt": 8, "val200.txt": 2, "test.txt": 5}


def picture(number: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Image.Image:
    small = np.random.default_rng(number).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


def write(folder: Path, size: object = (32, 32), mode: str = "RGB", suffix: str = "png", classes: int = 4) -> Path:
    """A processed folder; ``size`` is one for all images, or a function of the image's number."""
    (folder / "images").mkdir(parents=True)
    number = 0
    for name, count in PARTS.items():
        lines = []
        for _ in range(count):
            image = picture(number, size(number) if callable(size) else size, mode)  # type: ignore[arg-type]
            image.save(folder / "images" / f"{number}.{suffix}")
            lines.append(f"images/{number}.{suffix} {number % classes}")
            number += 1
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """VTAB-1K with parts that a test can write: 8, 2 and 5 images, SVHN of four classes."""
    monkeypatch.setitem(VTAB_SIZES, "svhn", VTAB_SIZES["svhn"]._replace(test=5, classes=4))
    monkeypatch.setattr(look, "TRAIN", 8)
    monkeypatch.setattr(look, "VAL", 2)


def prepare(folder: Path, out: Path, *more: str) -> int:
    told = ["--source", "folder", "--data-dir", str(folder), "--out", str(out)]
    return petl_make.main(["vtab", *told, *more])


def test_making_packs_needs_no_torch(tmp_path: Path) -> None:
    write(tmp_path / "in" / "mine", size=lambda number: (20 + number, 30))
    command = ["vtab", "--source", "folder", "--data-dir", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    code = "import sys; sys.modules['torch'] = None; from petl_make.__main__ import main; sys.exit(main(sys.argv[1:]))"
    assert subprocess.run([sys.executable, "-c", code, *command]).returncode == 0
    assert subprocess.run([sys.executable, "-c", code, "check-vtab", str(tmp_path / "out")]).returncode == 1
    assert array_pack.verify(tmp_path / "out" / "mine").splits["val"].images.shape == (2, 224, 224, 3)


def test_an_unknown_task_names_the_closest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(write(tmp_path / "in" / "svhn").parent, tmp_path / "out", "--task", "svnh") == 2
    assert "has no task 'svnh'; it has svhn" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="loading a task needs torch")
@pytest.mark.parametrize(
    ("layout", "shape", "sizes"),
    [
        ({}, (32, 32, 3), (32, 48)),
        ({"mode": "L"}, (32, 32, 1), (32, 48)),
        ({"size": (40, 20), "suffix": "jpg"}, (20, 40, 3), (32, 20)),
        ({"size": lambda number: (20 + number, 30)}, (48, 48, 3), (48,)),
    ],
)
def test_a_pack_gives_the_task_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: dict, shape: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    from petl_core.data import load_task

    write(tmp_path / "in" / "mine", **layout)
    assert prepare(tmp_path / "in", tmp_path / "out", "--size", "48") == 0
    assert array_pack.read(tmp_path / "out" / "mine").splits["test"].images.shape == (5, *shape)
    for size in sizes:
        monkeypatch.setenv("PETL_DATA", str(tmp_path / "out"))
        pack = load_task("vtab1k/mine", size=size)
        monkeypatch.setenv("PETL_DATA", str(tmp_path / "in"))
        folder = load_task("vtab1k/mine", size=size)
        assert pack.name == folder.name == "vtab1k/mine" and pack.group == folder.group
        assert pack.classes == folder.classes and pack.ids == folder.ids
        assert pack.images.equal(folder.images) and pack.labels.equal(folder.labels)
        assert all(pack.splits[split].equal(index) for split, index in folder.splits.items())
        assert pack.digest == folder.digest


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="loading a task needs torch")
def test_a_pack_comes_before_a_folder_and_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from petl_core.data import load_task

    monkeypatch.setenv("PETL_DATA", str(tmp_path))
    write(tmp_path / "vtab_processed" / "svhn", size=lambda number: (20 + number, 30))
    digest = load_task("vtab1k/svhn", size=48).digest
    assert prepare(tmp_path / "vtab_processed", tmp_path / "vtab1k", "--size", "48") == 0
    assert load_task("vtab1k/svhn", size=48).digest == digest
    with pytest.raises(UserError, match="resized to 48 pixels when it was made, and 32 are asked for; ask for 48, or"):
        load_task("vtab1k/svhn", size=32)
    images = tmp_path / "vtab1k" / "svhn" / "val_images.npy"
    content = bytearray(images.read_bytes())
    content[-7] ^= 8
    images.write_bytes(content)
    with pytest.raises(UserError, match=r"val_images\.npy has been altered"):
        load_task("vtab1k/svhn", size=48)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="loading a task needs torch")
def test_a_class_without_training_images_is_a_fault_of_other_tasks_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from petl_core.data import load_task

    monkeypatch.setenv("PETL_DATA", str(tmp_path))
    for name in ("svhn", "mine"):
        folder = write(tmp_path / name)
        lines = (folder / "test.txt").read_text().splitlines()
        (folder / "test.txt").write_text("\n".join([*lines[:-1], lines[-1][:-1] + "4"]))
    assert load_task("vtab1k/svhn", size=32).num_classes == 5
    with pytest.raises(UserError, match=r"'class 4'.* no training image"):
        load_task("vtab1k/mine", size=32)


def test_what_a_pack_says_of_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "svhn", size=(40, 20), suffix="jpg")
    assert prepare(tmp_path / "in", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "svhn: 8 + 2 + 5 images, 4 classes, 40 x 20, from 15 JPEG" in said
    assert "CAUTION  the images went through JPEG, VTAB-1K's did not" in said
    meta = array_pack.read(tmp_path / "out" / "svhn").meta
    assert meta["formats"] == {"JPEG": 15} and meta["resizing"] == "none" and meta["source"] == "folder"
    assert meta["counts"] == {"train": 8, "val": 2, "test": 5} and meta["decoded_by"].startswith("Pillow ")


def test_a_second_run_makes_only_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "svhn")
    write(tmp_path / "in" / "mine")
    assert prepare(tmp_path / "in", tmp_path / "out", "--task", "svhn") == 0
    before = (tmp_path / "out" / "svhn" / "pack.json").stat().st_mtime_ns
    (tmp_path / "out" / ".mine.part").mkdir()  # a run that was killed
    (tmp_path / "out" / ".mine.part" / "train_images.npy").write_bytes(b"half")
    assert prepare(tmp_path / "in", tmp_path / "out") == 0
    assert "svhn: is there already" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine", "svhn"]
    assert (tmp_path / "out" / "svhn" / "pack.json").stat().st_mtime_ns == before


def test_verify_finds_cut_and_altered_packs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "svhn"):
        write(tmp_path / "in" / name)
    assert prepare(tmp_path / "in", tmp_path / "out") == 0
    verify = ["vtab", "--out", str(tmp_path / "out"), "--verify"]
    assert petl_make.main(verify) == 0
    images = tmp_path / "out" / "a" / "test_images.npy"
    images.write_bytes(images.read_bytes()[:-100])
    labels = tmp_path / "out" / "b" / "test_labels.npy"
    labels.write_bytes(labels.read_bytes()[:-8] + b"\x01" + bytes(7))
    assert petl_make.main(verify) == 1
    said = capsys.readouterr().out
    assert "a: " in said and "test_images.npy has " in said and "were written; remove the folder" in said
    assert "test_labels.npy has been altered" in said and "svhn: every checksum is right" in said
    assert petl_make.main([*verify, "--task", "svhn"]) == 0
    assert prepare(tmp_path / "in", tmp_path / "out", "--task", "a") == 1  # a cut pack is not taken for a finished one
    assert petl_make.main(["vtab", "--out", str(tmp_path), "--verify"]) == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "images" / "9.png").unlink(), "9.png does not exist; replace the file"),
        (lambda folder: (folder / "images" / "9.png").write_bytes(b"no image"), "9.png is not an image"),
        (lambda folder: cut_off(folder / "images" / "9.png"), "9.png is damaged or truncated"),
        (lambda folder: (folder / "val200.txt").unlink(), "val200.txt: it does not exist"),
        (lambda folder: cut_lines(folder / "test.txt"), "4 images in test; VTAB-1K's svhn has 5. Complete the source"),
        (lambda folder: cut_lines(folder / "train800.txt"), "7 images in train; VTAB-1K's svhn has 8"),
        (lambda folder: (folder / "labels.txt").write_text("a\nb\nc\nd\ne\n"), "5 classes; VTAB-1K's has 4"),
        (lambda folder: (folder / "labels.txt").write_text("a\nb\n"), "labels from 0 to 1"),
        (lambda folder: again(folder), "images/0.png is in train800.txt and test.txt"),
    ],
)
def test_bad_folders_are_refused_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: object, message: str
) -> None:
    folder = write(tmp_path / "in" / "svhn")
    spoil(folder)  # type: ignore[operator]
    assert prepare(tmp_path / "in", tmp_path / "out") == 1
    assert message in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_lines(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def again(folder: Path) -> None:
    lines = (folder / "test.txt").read_text().splitlines()
    (folder / "test.txt").write_text("\n".join([*lines[:-1], "images/0.png 0"]))


def test_one_bad_task_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write(tmp_path / "in" / "a") / "images" / "3.png").unlink()
    write(tmp_path / "in" / "b")
    assert prepare(tmp_path / "in", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "1 of 2 tasks are in" in said.out and "not: a" in said.out and "a: FAILED  image " in said.err


def test_other_numbers_are_packed_when_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut_lines(write(tmp_path / "in" / "svhn") / "test.txt")
    assert prepare(tmp_path / "in", tmp_path / "out", "--partial") == 0
    assert "CAUTION  4 images in test; VTAB-1K's svhn has 5" in capsys.readouterr().out
    assert petl_make.main(["check-vtab", str(tmp_path / "out")]) == 1
    assert "FAULT  4 images in test; VTAB-1K's svhn has 5" in capsys.readouterr().out


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "mine", size=lambda number: (20 + number, 30))
    monkeypatch.setattr(array_pack, "MARGIN", 10**18)
    assert prepare(tmp_path / "in", tmp_path / "out", "--size", "512") == 1
    said = capsys.readouterr().err
    assert "needs 0.01 GB and its disk has " in said and "free some space there" in said  # 15 x 512 x 512 x 3 bytes
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "folder"], "--source folder needs --data-dir"),
        (["--source", "folder", "--data-dir", "nowhere"], "folder nowhere does not exist"),
        (["--size", "0"], "--size is 0; it must be from 1 to 4096"),
    ],
)
def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert petl_make.main(["vtab", "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_datasets") is not None, reason="tensorflow-datasets is here")
def test_without_tensorflow_datasets_it_says_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert petl_make.main(["vtab", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "tensorflow_datasets cannot be loaded" in said and "make data-env" in said
    assert not (tmp_path / "out").exists()


def test_binary_images_are_stretched() -> None:
    def sample(top: int) -> Encoded:
        image = Image.fromarray(np.array([[0, top], [top, 0]], dtype=np.uint8))
        image.save(buffer := io.BytesIO(), "PNG")
        return Encoded("a", 0, Path("a"), buffer.getvalue())

    stretched = np.array([[0, 255], [255, 0]], dtype=np.uint8)[:, :, None]
    for top in (1, 255):
        assert np.array_equal(vtab_prepare.pixels(sample(top), grey=True, size=None, binary=True), stretched)


def test_the_check_of_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "in" / "svhn")
    (folder / "images" / "12.png").write_bytes((folder / "images" / "3.png").read_bytes())
    for source, name in ((write(tmp_path / "sound" / "svhn").parent, "good"), (folder.parent, "bad")):
        assert prepare(source, tmp_path / name) == 0
    capsys.readouterr()
    assert petl_make.main(["check-vtab", str(tmp_path / "good" / "svhn")]) == 0
    assert "svhn: train 8 + val 2 + test 5; 4 classes; 15 PNG, edges at 8 pixels" in capsys.readouterr().out
    assert petl_make.main(["check-vtab", str(tmp_path / "bad")]) == 1
    assert "FAULT  1 images with equal pixels are in train and test" in capsys.readouterr().out
    index = tmp_path / "bad" / "svhn" / "pack.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"splits": ["train"]}))
    assert petl_make.main(["check-vtab", str(tmp_path / "bad")]) == 2


def test_equal_pixels_that_the_original_has_are_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "svhn")
    (folder / "images" / "12.png").write_bytes((folder / "images" / "3.png").read_bytes())
    assert len(vtab1k.check(folder).faults) == 1
    monkeypatch.setitem(TASKS, "svhn", dataclasses.replace(TASKS["svhn"], twins="the original does so"))
    report = vtab1k.check(folder)
    assert report.faults == [] and "in train and test: the original does so" in report.notes[0]


def test_lossy_webp_is_told_from_lossless(tmp_path: Path) -> None:
    for lossless, kind in ((True, "WEBP"), (False, "lossy WEBP")):
        path = tmp_path / f"{lossless}.webp"
        picture(0).save(path, lossless=lossless)
        with Image.open(path) as image:
            assert look.kind_of(image, path) == kind == look.kind_of(image, Path("absent"), path.read_bytes())
