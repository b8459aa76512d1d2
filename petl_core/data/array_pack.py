"""A pack: labelled images as uint8 arrays in one folder, without loss, readable with NumPy alone and in part.

    pack.json              format, the facts that the writer gave, and size, SHA-256, shape and type of each file
    <split>_images.npy     uint8 (n, height, width, channels), channels 1 (grey) or 3 (RGB)
    <split>_labels.npy     int64 (n,)
    <split>_ids.npy        text (n,), the samples' names

``write`` streams: it holds one image at a time. The files grow in a hidden folder beside the pack, are read again for
their checksums, and only then does the folder take its name; so a pack is whole or it is not there. ``read`` maps the
arrays into memory (a slice reads that slice) after it has compared each file's size; ``verify`` reads all of it and
compares the checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petl_core.utils import UserError, write_atomic

FORMAT = 1
INDEX = "pack.json"
ARRAYS = ("images", "labels", "ids")
MARGIN = 50_000_000  # bytes that must stay free on the disk
REPAIR = "remove the folder and make the pack again"

Sample = tuple[np.ndarray, int, str]  # image uint8 (height, width, channels), label, id


@dataclass(frozen=True)
class Part:
    """One split: ``images`` uint8 (n, height, width, channels), ``labels`` int64 (n,), ``ids`` text (n,).

    Read from a pack they are memory-mapped and cannot be written to."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Pack:
    """A pack that has been opened: its folder, the facts its writer gave, and its splits in the order written."""

    folder: Path
    meta: dict[str, Any]
    splits: dict[str, Part]
    files: dict[str, dict[str, Any]]  # bytes, sha256, shape and dtype of each file by its name


def is_pack(folder: str | Path) -> bool:
    """Whether ``folder`` is a finished pack."""
    return (Path(folder) / INDEX).is_file()


def write(folder: str | Path, splits: Mapping[str, Iterable[Sample]], meta: Mapping[str, Any]) -> Path:
    """Write a pack to ``folder``, which must not exist yet; returns its path.

    ``splits`` maps names to streams of (image uint8 (height, width, channels), label, id); all images of a split have
    one shape, and at least one sample is in each. ``meta`` is kept in pack.json as it is (JSON values). Raises
    UserError where the folder is there already or the disk does not take it, ValueError where a sample is not as
    described; whatever goes wrong, an error of the stream included, leaves nothing behind.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} is there already; remove it or choose another folder")
    growing = folder.with_name(f".{folder.name}.part")
    try:
        _remove(growing)  # of a writer that was killed
        growing.mkdir(parents=True)
        files: dict[str, dict[str, Any]] = {}
        for split, samples in splits.items():
            for name, array in _write_split(growing, split, samples).items():
                path = growing / name
                files[name] = {"bytes": path.stat().st_size, "sha256": checksum(path)} | array
        index = {"format": FORMAT, "meta": dict(meta), "splits": list(splits), "files": files}
        write_atomic(growing / INDEX, json.dumps(index, indent=1).encode() + b"\n")
        read(growing)
        os.rename(growing, folder)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {folder}: {reason}; choose a folder that is writable and has space") from error
    finally:
        with contextlib.suppress(OSError):
            _remove(growing)
    return folder


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


def _write_split(folder: Path, split: str, samples: Iterable[Sample]) -> dict[str, dict[str, Any]]:
    """Shape and type of each file written."""
    labels: list[int] = []
    ids: list[str] = []
    shape: tuple[int, ...] | None = None
    with open(folder / f"{split}_images.npy", "w+b") as file:
        for image, label, name in samples:
            if shape is None:
                shape = image.shape
                _write_header(file, (0, *shape))
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.shape != shape:
                raise ValueError(
                    f"split {split!r}, sample {name!r}: image {image.dtype} {image.shape}; a pack takes uint8 (height, "
                    f"width, 1 or 3), all of one shape, and this split began with {shape}"
                )
            file.write(np.ascontiguousarray(image).data)
            labels.append(label)
            ids.append(name)
        if shape is None:
            raise ValueError(f"split {split!r} has no samples")
        file.seek(0)
        _write_header(file, (len(labels), *shape))  # NumPy pads headers so that the first axis can grow in place
        file.flush()
        os.fsync(file.fileno())
    written = {f"{split}_images.npy": {"shape": [len(labels), *shape], "dtype": np.dtype(np.uint8).str}}
    for key, array in (("labels", np.array(labels, dtype=np.int64)), ("ids", np.array(ids, dtype=np.str_))):
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        write_atomic(folder / f"{split}_{key}.npy", content.getvalue())
        written[f"{split}_{key}.npy"] = {"shape": list(array.shape), "dtype": array.dtype.str}
    return written


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    header = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        number = index["format"]
        files = {f"{split}_{key}.npy" for split in index["splits"] for key in ARRAYS}
        complete = isinstance(index["meta"], dict) and set(index["files"]) == files
    except FileNotFoundError as error:
        raise UserError(f"{folder} is no pack: there is no {INDEX} in it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}: {error}); {REPAIR}") from error
    if number != FORMAT:
        raise UserError(f"{path} has format {number!r}; this version reads {FORMAT}; {REPAIR}")
    if not complete:
        raise UserError(f"{path} does not name the files of its splits; {REPAIR}")
    return index


def read(folder: str | Path) -> Pack:
    """Open a pack. The arrays are memory-mapped, so nothing but what is looked at is read.

    UserError where it is no pack, or a file is missing or has another size, shape or type than was written; altered
    bytes of the same size are found by ``verify``."""
    folder = Path(folder)
    index = _index(folder)
    arrays = {name: _mapped(folder / name, entry) for name, entry in index["files"].items()}
    splits = {split: Part(*(arrays[f"{split}_{key}.npy"] for key in ARRAYS)) for split in index["splits"]}
    return Pack(folder, index["meta"], splits, index["files"])


def _mapped(path: Path, entry: dict[str, Any]) -> np.ndarray:
    """The array in a file of a pack, which must be as its entry in the index says."""
    try:
        size = path.stat().st_size
        array = np.load(path, mmap_mode="r", allow_pickle=False) if size == entry["bytes"] else None
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {REPAIR}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); {REPAIR}") from error
    if array is None:
        raise UserError(f"{path} has {size:,} bytes; {entry['bytes']:,} were written; {REPAIR}")
    if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
        raise UserError(f"{path} holds {array.dtype.str} {array.shape}, which {INDEX} does not say; {REPAIR}")
    return array


def verify(folder: str | Path) -> Pack:
    """``read``, after every byte has been compared with the checksums; UserError names the file that differs."""
    pack = read(folder)
    for name, entry in pack.files.items():
        path = pack.folder / name
        if checksum(path) != entry["sha256"]:
            raise UserError(f"{path} has been altered since it was written (SHA-256 differs); {REPAIR}")
    return pack


def demand_space(place: str | Path, needed: int) -> None:
    """UserError unless the disk of ``place`` (which may not exist yet) has ``needed`` bytes free, and some to spare."""
    path = Path(place).absolute()
    free = shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.is_dir())).free
    if free < needed + MARGIN:
        raise UserError(
            f"{place} needs {needed / 1e9:.2f} GB and its disk has {free / 1e9:.2f} GB free; free some space there or "
            "choose another disk"
        )
