"""Natural: scikit-learn's handwritten digits on pieces of photographs, as on house fronts."""

import gzip
from functools import lru_cache

import numpy as np

from petl_make.suite import embedded_task
from petl_make.suite.draw import FINE, SIZE, Array, Draw, grid, shrink, turned
from petl_make.suite.photos import clutter, package_file

ORIGINALS = {"train": (0, 637), "val": (637, 797), "test": (797, 1797)}  # of the shuffled 1,797


@lru_cache(maxsize=1)
def originals() -> tuple[Array, Array]:
    """The 8 x 8 images, (1797, 8, 8) in [0, 1], in a fixed random order, and their labels."""
    with gzip.open(package_file("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    table = table[Draw("digits", "order", 0, 0).order(len(table))]
    return table[:, :64].reshape(-1, 8, 8) / 16.0, table[:, 64].astype(int)


@lru_cache(maxsize=64)
def of_class(split: str, label: int) -> Array:
    images, labels = originals()
    first, last = ORIGINALS[split]
    return images[first:last][labels[first:last] == label]


def ink(digit: Array, x: Array, y: Array) -> Array:
    """The digit's ink at coordinates in digit pixels: bilinear, nothing outside."""
    padded = np.pad(digit, 2)
    x, y = np.clip(x + 1.5, 0, 10.999), np.clip(y + 1.5, 0, 10.999)
    column, row = x.astype(int), y.astype(int)
    tx, ty = x - column, y - row
    top = padded[row, column] * (1 - tx) + padded[row, column + 1] * tx
    bottom = padded[row + 1, column] * (1 - tx) + padded[row + 1, column + 1] * tx
    return top * (1 - ty) + bottom * ty


@embedded_task(
    name="digits",
    group="natural",
    classes=tuple("0123456789"),
    description="The handwritten digit in the middle; others may show at the sides. Dark on light or light on dark.",
    source="scikit-learn's digits (UCI optical recognition of handwritten digits), photographs as backgrounds",
    licence="CC BY 4.0 (Alpaydin and Kaynak, 1998)",
    colour="tinted",
)
def sample(draw: Draw, label: int) -> Array:
    pool = of_class(draw.split, label)
    digit = pool[draw.number % len(pool)]
    x, y = grid()
    u, v = turned(x, y, SIZE / 2 + draw.uniform(-2.5, 2.5), SIZE / 2 + draw.uniform(-2, 2), draw.uniform(-0.25, 0.25))
    scale = draw.uniform(2.6, 3.4)  # image pixels to one digit pixel
    u, v = u / scale + draw.uniform(-0.3, 0.3) * v / scale, v / scale * draw.uniform(0.85, 1.15)
    mask = ink(digit, u + 4, v + 4)
    for side in (-8.5, 8.5):
        if draw.chance(0.3):
            other = of_class(draw.split, draw.integer(0, 9))
            mask = np.maximum(mask, ink(draw.pick(other), u + 4 + side, v + 4))
    mask = shrink(np.clip(mask * 1.6 - 0.3, 0, 1), FINE)
    low = draw.uniform(0.0, 0.25)
    back, front = clutter(draw, low, low + draw.uniform(0.15, 0.35)), draw.uniform(0.75, 1.0)
    picture = back + (front - back) * mask
    return picture if draw.chance(0.5) else 1 - picture
