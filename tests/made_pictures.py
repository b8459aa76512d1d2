"""Small pictures and folders of them, for the tests of reading people's own images."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, height: int = 40, width: int = 40) -> Image.Image:
    """A picture of its own for each seed: smooth, so that it survives JPEG, and unlike all others."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def put(path: Path, picture: Image.Image | None = None, **options: object) -> Path:
    """Save a picture (of its own, if none is given) under a path whose folders may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or noise(zlib.crc32(str(path).encode("utf-8", "surrogateescape")))).save(path, **options)
    return path


def fill(root: Path, places: dict[str, int], suffix: str = ".png") -> Path:
    """So many pictures in each of the folders below ``root``."""
    for place, count in places.items():
        for i in range(count):
            put(root / place / f"im{i}{suffix}")
    return root


def two(root: Path, each: int = 10) -> Path:
    """A folder of two classes."""
    return fill(root, {"cat": each, "dog": each})
