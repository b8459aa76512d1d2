"""How embedded images become small files: five bits a channel, predicted from their neighbours, packed
deterministically.

Nothing here is lossy except the first step, which happens when a suite is built: intensities are rounded to ``LEVELS``
values. What is stored afterwards comes back exactly. Prediction is the median edge detector of JPEG-LS (Weinberger,
Seroussi and Sapiro, IEEE Trans. Image Processing, 2000), run on all images of a task at once; the residuals go into an
ordinary ``.npz`` whose members carry a fixed time stamp, so that equal arrays give equal bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np

from petl_core.errors import UserError

LEVELS = 32  # five bits


def quantise(images: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1] to levels 0 ... LEVELS-1 (uint8)."""
    return np.clip(np.floor(images * LEVELS), 0, LEVELS - 1).astype(np.uint8)


def intensities(levels: np.ndarray) -> np.ndarray:
    """Levels to uint8 intensities 0 ... 255, in integers only."""
    return ((levels.astype(np.uint16) * 255 + (LEVELS - 1) // 2) // (LEVELS - 1)).astype(np.uint8)


def tinted(levels: np.ndarray, tints: np.ndarray) -> np.ndarray:
    """Grey levels (M, 1, S, S) and two colours an image (M, 2, 3), dark and light, to uint8 colour images (M, 3, S,
    S)."""
    dark, light = (tints[:, i, :, None, None].astype(np.int32) for i in (0, 1))
    return ((dark * (LEVELS - 1 - levels) + light * levels + (LEVELS - 1) // 2) // (LEVELS - 1)).astype(np.uint8)


def _median_prediction(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    low, high = np.minimum(left, up), np.maximum(left, up)
    return np.where(corner >= high, low, np.where(corner <= low, high, left + up - corner))


def encode(levels: np.ndarray) -> np.ndarray:
    """Levels (M, P, S, S) to residuals of the same shape, uint8 in [0, LEVELS)."""
    planes = levels.astype(np.int16)
    if planes.shape[1] == 3:  # red and blue as differences to green
        planes = np.stack([planes[:, 0] - planes[:, 1], planes[:, 1], planes[:, 2] - planes[:, 1]], axis=1) % LEVELS
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 0), (1, 0)))
    guess = _median_prediction(padded[:, :, 1:, :-1], padded[:, :, :-1, 1:], padded[:, :, :-1, :-1])
    return ((planes - guess) % LEVELS).astype(np.uint8)


def decode(residuals: np.ndarray) -> np.ndarray:
    """The inverse of ``encode``: pixel by pixel, but for all images and planes at once."""
    count, depth, height, width = residuals.shape
    source = np.ascontiguousarray(residuals.transpose(2, 3, 0, 1).reshape(height, width, -1)).astype(np.int16)
    padded = np.zeros((height + 1, width + 1, count * depth), dtype=np.int16)
    for y in range(height):
        for x in range(width):
            guess = _median_prediction(padded[y + 1, x], padded[y, x + 1], padded[y, x])
            padded[y + 1, x + 1] = (source[y, x] + guess) % LEVELS
    planes = padded[1:, 1:].reshape(height, width, count, depth).transpose(2, 3, 0, 1)
    if depth == 3:
        green = planes[:, 1]
        planes = np.stack([planes[:, 0] + green, green, planes[:, 2] + green], axis=1) % LEVELS
    return planes.astype(np.uint8)


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """An ``.npz`` (readable by ``numpy.load``) whose bytes depend on the arrays and the lzma library only."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_LZMA
            member.create_system = 3
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), version=(1, 0), allow_pickle=False)
            archive.writestr(member, content.getvalue())
    return buffer.getvalue()


def read_npz(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``; UserError naming the file where it is missing, damaged or lacks an array."""
    repair = "restore it with `git checkout` or rebuild it with `python -m petl_core data build-suite --out DIR`"
    if not path.is_file():
        raise UserError(f"the embedded task file {path} does not exist; {repair}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, lzma, zlib and numpy each have their own way to refuse a damaged file
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); {repair}") from error
    if missing := [name for name in needed if name not in arrays]:
        raise UserError(f"{path} lacks the arrays {', '.join(missing)}; {repair}")
    return arrays


def write_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, sync, rename: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; choose a folder that is writable and has space") from error
