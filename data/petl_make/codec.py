"""The writing half of ``petl_core.data.codec``: levels of intensity, their residuals, and files with fixed bytes."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from petl_core.data import codec
from petl_core.data.codec import LEVELS, median_prediction


def quantise(images: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1] to levels 0 ... LEVELS-1 (uint8)."""
    return np.clip(np.floor(images * LEVELS), 0, LEVELS - 1).astype(np.uint8)


def encode(levels: np.ndarray) -> np.ndarray:
    """Levels (M, P, S, S) to residuals of the same shape, uint8 in [0, LEVELS)."""
    planes = levels.astype(np.int16)
    if planes.shape[1] == 3:  # red and blue as differences to green
        planes = np.stack([planes[:, 0] - planes[:, 1], planes[:, 1], planes[:, 2] - planes[:, 1]], axis=1) % LEVELS
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 0), (1, 0)))
    guess = median_prediction(padded[:, :, 1:, :-1], padded[:, :, :-1, 1:], padded[:, :, :-1, :-1])
    return ((planes - guess) % LEVELS).astype(np.uint8)


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


def levels_of(picture: np.ndarray) -> np.ndarray:
    """One picture, (S, S) or (S, S, 3) with intensities in [0, 1], as levels (P, S, S); P is 3 for colour, else 1."""
    return quantise(picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None])


def meta_array(meta: dict[str, object]) -> np.ndarray:
    """What a task's file says of itself, as bytes (JSON)."""
    return np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8)


def compare(path: Path, arrays: dict[str, np.ndarray], content: bytes) -> str:
    """How a file stands to what was drawn: "identical bytes", "equal arrays" or "different"."""
    shipped = codec.read_npz(path, ())
    if path.read_bytes() == content:
        return "identical bytes"
    same = shipped.keys() == arrays.keys() and all(np.array_equal(shipped[key], arrays[key]) for key in arrays)
    return "equal arrays" if same else "different"
