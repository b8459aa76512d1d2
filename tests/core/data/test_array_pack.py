"""Packs of uint8 arrays: whole or not there, read in part, and found out when they are cut or altered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from petl_core.data import array_pack
from petl_core.utils import UserError


def samples(count: int, channels: int = 3) -> Iterator[array_pack.Sample]:
    for i in range(count):
        yield np.random.default_rng(i).integers(0, 256, (5, 7, channels)).astype(np.uint8), i % 4, f"train/{i:06d}"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    meta = {"task": "mine", "classes": ["one", "zwölf"]}
    return array_pack.write(tmp_path / "out" / "mine", {"train": samples(12), "test": samples(3, channels=1)}, meta)


def test_what_is_written_comes_back(pack: Path) -> None:
    found = array_pack.read(pack)
    assert found.meta == {"task": "mine", "classes": ["one", "zwölf"]} and list(found.splits) == ["train", "test"]
    train, test = found.splits.values()
    wanted = list(samples(12))
    assert isinstance(train.images, np.memmap) and not train.images.flags.writeable
    assert train.images.shape == (12, 5, 7, 3) and test.images.shape == (3, 5, 7, 1)
    assert np.array_equal(train.images, np.stack([image for image, _, _ in wanted]))
    assert train.labels.dtype == np.int64 and train.labels.tolist() == [label for _, label, _ in wanted]
    assert train.ids.tolist() == [name for _, _, name in wanted]
    assert array_pack.is_pack(pack) and not array_pack.is_pack(pack.parent)


def test_numpy_alone_reads_a_pack(pack: Path) -> None:
    code = "import sys, numpy; print(numpy.load(sys.argv[1] + '/train_images.npy').sum(dtype=int))"
    done = subprocess.run([sys.executable, "-c", code, str(pack)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == sum(int(image.sum(dtype=int)) for image, _, _ in samples(12))


def test_equal_samples_give_equal_bytes(pack: Path, tmp_path: Path) -> None:
    meta = {"task": "mine", "classes": ["one", "zwölf"]}
    again = array_pack.write(tmp_path / "again", {"train": samples(12), "test": samples(3, channels=1)}, meta)
    assert sorted(os.listdir(again)) == sorted(os.listdir(pack))
    assert all((again / name).read_bytes() == (pack / name).read_bytes() for name in os.listdir(again))


def test_many_samples_fit_the_header(tmp_path: Path) -> None:
    tiny = ((np.full((1, 1, 1), i % 251, dtype=np.uint8), 0, str(i)) for i in range(100_000))
    images = array_pack.verify(array_pack.write(tmp_path / "a", {"test": tiny}, {})).splits["test"].images
    assert images.shape == (100_000, 1, 1, 1) and images[99_999, 0, 0, 0] == 99_999 % 251


@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt()])
def test_an_error_of_the_stream_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def stream() -> Iterator[array_pack.Sample]:
        yield from samples(5)
        raise error

    with pytest.raises(type(error)):
        array_pack.write(tmp_path / "a", {"train": samples(3), "test": stream()}, {})
    assert os.listdir(tmp_path) == []


def test_a_writer_that_was_killed_is_cleared_away(tmp_path: Path) -> None:
    code = (
        "import os, sys\nimport numpy as np\nfrom petl_core.data import array_pack\n"
        "def stream():\n"
        "    yield np.zeros((5, 5, 3), np.uint8), 0, 'a'\n"
        "    os.kill(os.getpid(), 9)\n"
        "array_pack.write(sys.argv[1], {'train': stream()}, {})\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")]).returncode == -9
    assert os.listdir(tmp_path) == [".a.part"] and not array_pack.is_pack(tmp_path / "a")
    array_pack.write(tmp_path / "a", {"train": samples(2)}, {})
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "image", [np.zeros((5, 7, 3), np.float32), np.zeros((5, 6, 3), np.uint8), np.zeros((5, 7), np.uint8)]
)
def test_images_of_another_kind_are_refused(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"sample 'odd': image .* a pack takes uint8"):
        array_pack.write(tmp_path / "a", {"train": [*samples(1), (image, 0, "odd")]}, {})
    assert os.listdir(tmp_path) == []


def test_no_samples_and_a_folder_that_is_there_are_refused(pack: Path) -> None:
    with pytest.raises(ValueError, match="split 'test' has no samples"):
        array_pack.write(pack.with_name("b"), {"test": []}, {})
    with pytest.raises(UserError, match="mine is there already; remove it"):
        array_pack.write(pack, {"train": samples(2)}, {})


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "train_ids.npy"])
def test_cut_and_missing_files_are_found_on_reading(pack: Path, name: str) -> None:
    whole = (pack / name).read_bytes()
    (pack / name).write_bytes(whole[:-1])
    with pytest.raises(UserError, match=rf"{name} has {len(whole) - 1:,} bytes; {len(whole):,} were written; remove"):
        array_pack.read(pack)
    (pack / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        array_pack.read(pack)


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "train_ids.npy"])
def test_altered_bytes_are_found_by_verify(pack: Path, name: str) -> None:
    assert array_pack.verify(pack).splits
    content = bytearray((pack / name).read_bytes())
    content[-1] ^= 1
    (pack / name).write_bytes(content)
    array_pack.read(pack)
    with pytest.raises(UserError, match=rf"{name} has been altered since it was written"):
        array_pack.verify(pack)


def test_a_damaged_index_and_another_format_are_found(pack: Path, tmp_path: Path) -> None:
    index = json.loads((pack / "pack.json").read_text())
    for change, message in (
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"splits": ["train"]}, "does not name the files of its splits"),
        ({"meta": None}, "does not name the files of its splits"),
    ):
        (pack / "pack.json").write_text(json.dumps(index | change))
        with pytest.raises(UserError, match=message):
            array_pack.read(pack)
    (pack / "pack.json").write_text(json.dumps(index)[:-9])
    with pytest.raises(UserError, match=r"pack\.json cannot be read \(JSONDecodeError"):
        array_pack.read(pack)
    with pytest.raises(UserError, match=r"is no pack: there is no pack\.json"):
        array_pack.read(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="choose a folder that is writable"):
            array_pack.write(tmp_path / "a", {"train": samples(2)}, {})
    finally:
        tmp_path.chmod(0o700)


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    array_pack.demand_space(tmp_path / "not" / "there", 1000)
    with pytest.raises(UserError, match=r"needs 1000000000\.00 GB and its disk has [0-9.]+ GB free; free some space"):
        array_pack.demand_space(tmp_path / "not" / "there", 10**18)
