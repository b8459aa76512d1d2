"""Real photographs from the wheels of scikit-image, scikit-learn and Matplotlib, cut into cells, each of one split.

A photograph is divided into square cells; each cell belongs to train, val or test, and a patch lies in one cell, so
that no pixel of a test patch is seen in training.
"""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import numpy as np

from petl_core.utils import UserError
from petl_make.suite.draw import SIZE, Array, Draw, luminance

FOLDERS = {
    "skimage": "data",
    "sklearn": "datasets/images",
    "matplotlib": "mpl-data/sample_data",
}
SHARE = {"train": 0.45, "val": 0.1, "test": 0.45}


def package_file(package: str, inside: str) -> Path:
    """Where a file of an installed package lies (the package is not imported)."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError(
            f"{package} is not installed with its file {inside}; "
            "drawing the suite needs it: pip install -r requirements.txt"
        )
    return path


@lru_cache(maxsize=64)
def photo(name: str) -> Array:
    """Brightness of a photograph, (height, width) in [0, 1]. ``name`` is e.g. "skimage/brick.png"."""
    if name == "elevation":
        return shaded_elevation()
    from PIL import Image

    package, file = name.split("/")
    with Image.open(package_file(package, f"{FOLDERS[package]}/{file}")) as image:
        return luminance(np.asarray(image.convert("RGB"), dtype=np.float64) / 255.0)


def shaded_elevation() -> Array:
    """Matplotlib's elevation model of the Jacksboro fault (Tennessee), lit from the north-west."""
    with np.load(package_file("matplotlib", "mpl-data/sample_data/jacksboro_fault_dem.npz")) as archive:
        height = archive["elevation"].astype(np.float64)
    down, right = height[2:, 1:-1] - height[:-2, 1:-1], height[1:-1, 2:] - height[1:-1, :-2]
    slope = (down + right) / 2
    return np.clip(0.5 + slope / (6 * slope.std()), 0, 1)


@lru_cache(maxsize=256)
def cells(name: str, side: int, split: str, box: tuple[float, float, float, float] | None = None) -> list[Array]:
    """The cells, each (side, side), of a photograph (or of a box x0, y0, x1, y1 of it, in pixels) that belong to a
    split."""
    whole = photo(name)
    if box is not None:
        x0, y0, x1, y1 = (int(v) for v in box)
        whole = whole[y0:y1, x0:x1]
    corners = [
        (y, x) for y in range(0, whole.shape[0] - side + 1, side) for x in range(0, whole.shape[1] - side + 1, side)
    ]
    found = [whole[y : y + side, x : x + side] for y, x in corners]
    found = [cell for cell in found if cell.std() > 0.02]  # a bare patch of sky or shadow tells nothing
    order = Draw(f"{name}{box}", "cells", side, 0).order(len(found))
    first = max(1, round(SHARE["train"] * len(found)))
    second = first + max(1, round(SHARE["val"] * len(found)))
    part = {"train": order[:first], "val": order[first:second], "test": order[second:]}[split]
    if not len(part):
        raise UserError(f"{name} has only {len(found)} cells of {side} pixels; it needs 3 or more")
    return [found[i] for i in part]


def sample_square(cell: Array, at: tuple[float, float], side: float, angle: float, *, flip: bool) -> Array:
    """A turned square of a cell, its middle ``at`` (x, y), as (SIZE, SIZE): bilinear, several samples a pixel where the
    square is larger."""
    fine = max(1, min(4, math.ceil(side / SIZE)))
    line = ((np.arange(SIZE * fine) + 0.5) / (SIZE * fine) - 0.5) * side
    u, v = np.meshgrid(-line if flip else line, line)
    c, s = math.cos(angle), math.sin(angle)
    x = np.clip(at[0] + u * c - v * s - 0.5, 0, cell.shape[1] - 1.001)
    y = np.clip(at[1] + u * s + v * c - 0.5, 0, cell.shape[0] - 1.001)
    column, row = x.astype(int), y.astype(int)
    tx, ty = x - column, y - row
    top = cell[row, column] * (1 - tx) + cell[row, column + 1] * tx
    bottom = cell[row + 1, column] * (1 - tx) + cell[row + 1, column + 1] * tx
    mixed = top * (1 - ty) + bottom * ty
    return mixed.reshape(SIZE, fine, SIZE, fine).mean(axis=(1, 3))


def patch(
    draw: Draw, pieces: list[Array], side: tuple[float, float], turn: float = math.pi, least: float = 0.05
) -> Array:
    """A random square inside one of the cells, its side in pixels of the photograph, turned by up to ``turn`` radians
    either way, mirrored or not. Squares whose deviation is below ``least`` (bare sky, shadow) are drawn again, at most
    20 times."""
    for _ in range(20):
        cell = draw.pick(pieces)
        angle = draw.uniform(-turn, turn)
        spread = abs(math.cos(angle)) + abs(math.sin(angle))
        largest = cell.shape[0] / spread
        length = draw.uniform(min(side[0], largest), min(side[1], largest))
        margin = length * spread / 2
        at = draw.uniform(margin, cell.shape[0] - margin), draw.uniform(margin, cell.shape[0] - margin)
        picture = sample_square(cell, at, length, angle, flip=draw.chance(0.5))
        if picture.std() >= least:
            break
    return picture


def evened(
    draw: Draw, picture: Array, deviation: tuple[float, float] = (0.14, 0.24), mean: tuple[float, float] = (0.4, 0.6)
) -> Array:
    """The picture with its mean and contrast set by chance, so that neither tells the class."""
    spread = max(float(picture.std()), 0.01)
    return np.clip(draw.uniform(*mean) + (picture - picture.mean()) / spread * draw.uniform(*deviation), 0, 1)


def clutter(draw: Draw, low: float = 0.0, high: float = 1.0) -> Array:
    """A piece of some photograph as a background, (32, 32) between low and high; which one tells nothing of the
    class."""
    name = draw.pick(BACKGROUNDS)
    piece = patch(draw, cells(name, 96, draw.split), (40, 90))
    piece = (piece - piece.min()) / max(float(piece.max() - piece.min()), 0.05)
    return low + (high - low) * piece


BACKGROUNDS = (
    "skimage/astronaut.png",
    "skimage/brick.png",
    "skimage/camera.png",
    "skimage/coffee.png",
    "skimage/grass.png",
    "skimage/gravel.png",
    "skimage/rocket.jpg",
    "sklearn/china.jpg",
    "sklearn/flower.jpg",
)
