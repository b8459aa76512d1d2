"""Writing whole files or none: full disks, limits, unwritable and absent folders, errors and interruptions half way."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from petl_core.utils import UserError, write_atomic


def test_bytes_and_functions(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "a", b"one") == tmp_path / "a"
    assert write_atomic(str(tmp_path / "a"), lambda file: file.write(b"two")).read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt()])
def test_an_error_half_way_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = write_atomic(tmp_path / "a", b"old")

    def writer(file: BinaryIO) -> None:
        file.write(b"new" * 1000)
        raise error

    with pytest.raises(type(error)):
        write_atomic(path, writer)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_file_grows_under_another_name(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "a", b"old")

    def writer(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    assert write_atomic(path, writer).read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent/a", "no such file or directory; make the folder first"),
        ("file/a", "a part of the path is a file"),
        ("folder", "is a directory; that is a folder; add a file name"),
        ("n" * 300, "file name too long; choose a shorter name"),
    ],
)
def test_impossible_places(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"cannot write .*{message}"):
        write_atomic(tmp_path / name, b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="choose a folder that you may write to"):
            write_atomic(tmp_path / "a", b"x")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_folder_that_takes_no_files() -> None:
    with pytest.raises(UserError, match="cannot write /proc/self/a"):
        write_atomic("/proc/self/a", b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(tmp_path: Path) -> None:
    """The writer meets the error of a full disk, from the device that always is one."""
    path = write_atomic(tmp_path / "a", b"old")

    def writer(file: BinaryIO) -> None:
        file.write(b"new")
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(UserError, match="no space left on device; free some space there"):
        write_atomic(path, writer)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    """A real write that the system cuts short, in a process of its own: nothing half-written remains."""
    code = (
        "import sys, signal, resource\n"
        "from petl_core.utils import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_atomic(sys.argv[1], b'x' * 100_000)\n"
        "except ValueError as error: print(error)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
    target = str(tmp_path / "a")
    done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"cannot write {target}: file too large; raise the limit")
    assert os.listdir(tmp_path) == []
