"""How embedded images are kept in small files: five bits a channel, predicted from their neighbours, packed.

Nothing here is lossy except the first step, which happened when a suite was built (``petl_make.codec``): intensities
were rounded to ``LEVELS`` values. What is stored comes back exactly. Prediction is the median edge detector of JPEG-LS
(Weinberger, Seroussi and Sapiro, IEEE Trans. Image Processing, 2000), run on all images of a task at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from petl_core.utils import UserError

LEVELS = 32  # five bits


def intensities(levels: np.ndarray) -> np.ndarray:
    """Levels to uint8 intensities 0 ... 255, in integers only."""
    return ((levels.astype(np.uint16) * 255 + (LEVELS - 1) // 2) // (LEVELS - 1)).astype(np.uint8)


def tinted(levels: np.ndarray, tints: np.ndarray) -> np.ndarray:
    """Grey levels (M, 1, S, S) and two colours an image (M, 2, 3), dark and light, to uint8 colour images (M, 3, S,
    S)."""
    dark, light = (tints[:, i, :, None, None].astype(np.int32) for i in (0, 1))
    return ((dark * (LEVELS - 1 - levels) + light * levels + (LEVELS - 1) // 2) // (LEVELS - 1)).astype(np.uint8)


def median_prediction(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """What a pixel is guessed to be from its neighbours to the left, above, and above left of it (all of one shape)."""
    low, high = np.minimum(left, up), np.maximum(left, up)
    return np.where(corner >= high, low, np.where(corner <= low, high, left + up - corner))


def decode(residuals: np.ndarray) -> np.ndarray:
    """The inverse of ``encode``: pixel by pixel, but for all images and planes at once."""
    count, depth, height, width = residuals.shape
    source = np.ascontiguousarray(residuals.transpose(2, 3, 0, 1).reshape(height, width, -1)).astype(np.int16)
    padded = np.zeros((height + 1, width + 1, count * depth), dtype=np.int16)
    for y in range(height):
        for x in range(width):
            guess = median_prediction(padded[y + 1, x], padded[y, x + 1], padded[y, x])
            padded[y + 1, x + 1] = (source[y, x] + guess) % LEVELS
    planes = padded[1:, 1:].reshape(height, width, count, depth).transpose(2, 3, 0, 1)
    if depth == 3:
        green = planes[:, 1]
        planes = np.stack([planes[:, 0] + green, green, planes[:, 2] + green], axis=1) % LEVELS
    return planes.astype(np.uint8)


def read_npz(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``; UserError naming the file where it is missing, damaged or lacks an array."""
    repair = "restore it with `git checkout` or rebuild it with `python -m petl_make suite --out DIR`"
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
