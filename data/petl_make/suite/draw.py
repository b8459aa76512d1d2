"""Chance and drawing for the embedded suite: everything is NumPy, so no drawing library's version shows in the pixels.

``Draw`` uses nothing but PCG64's uniform doubles, whose values NumPy fixes for good; its derived distributions are made
here. Shapes are drawn on a grid ``FINE`` times finer than the image and averaged down.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

SIZE, FINE = 32, 2
Array = np.ndarray


class Draw:
    """The chance behind one sample. ``split`` is "train", "val" or "test"; ``number`` counts samples of its class
    there."""

    def __init__(self, task: str, split: str, index: int, number: int) -> None:
        self.split, self.number = split, number
        entropy = [zlib.crc32(task.encode()), zlib.crc32(split.encode()), index]
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(self._generator.random())

    def array(self, shape: tuple[int, ...] | int, low: float = 0.0, high: float = 1.0) -> Array:
        return low + (high - low) * self._generator.random(shape)

    def integer(self, low: int, high: int) -> int:
        """One of low ... high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def pick(self, options: Any) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def order(self, count: int) -> Array:
        """A permutation of 0 ... count-1."""
        return np.argsort(self._generator.random(count), kind="stable")

    def angle(self) -> float:
        return self.uniform(0.0, 2 * math.pi)


@lru_cache(maxsize=8)
def grid(size: int = SIZE, fine: int = FINE) -> tuple[Array, Array]:
    """x and y of the fine sample points in pixel units, each (size*fine, size*fine)."""
    line = (np.arange(size * fine) + 0.5) / fine
    x, y = np.meshgrid(line, line)
    return x, y


def shrink(fine: Array, factor: int = FINE) -> Array:
    """Average blocks of factor x factor samples: (h*f, w*f) or (h*f, w*f, 3) to (h, w[, 3])."""
    height, width = fine.shape[0] // factor, fine.shape[1] // factor
    return fine.astype(np.float64).reshape(height, factor, width, factor, *fine.shape[2:]).mean(axis=(1, 3))


def turned(x: Array, y: Array, cx: float, cy: float, angle: float) -> tuple[Array, Array]:
    """Coordinates seen from a frame at (cx, cy) turned by ``angle`` (radians)."""
    c, s = math.cos(angle), math.sin(angle)
    return (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s


def smooth_noise(draw: Draw, cells: float, size: int = SIZE * FINE) -> Array:
    """A smooth random field in [0, 1], (size, size), with about ``cells`` bumps along one side."""
    knots = math.ceil(cells) + 2
    values = draw.array((knots, knots))
    at = draw.uniform() + (np.arange(size) + 0.5) / size * cells
    low = np.minimum(at.astype(int), knots - 2)
    t = np.clip(at - low, 0.0, 1.0)
    t = t * t * (3 - 2 * t)
    rows = values[low] * (1 - t)[:, None] + values[low + 1] * t[:, None]
    return rows[:, low] * (1 - t)[None, :] + rows[:, low + 1] * t[None, :]


def luminance(colour: Array) -> Array:
    """Brightness of RGB values in the last dimension."""
    return colour[..., 0] * 0.299 + colour[..., 1] * 0.587 + colour[..., 2] * 0.114


def any_colour(draw: Draw) -> Array:
    """A random RGB colour (3,): any brightness, moderately saturated."""
    return np.clip(draw.uniform(0.05, 0.95) + draw.array(3, -0.35, 0.35), 0, 1)


def colour(draw: Draw, low: float = 0.0, high: float = 1.0) -> Array:
    """A random RGB colour (3,) with brightness in [low, high]."""
    for _ in range(100):
        value = any_colour(draw)
        if low <= luminance(value) <= high:
            break
    return value


def shade_of(draw: Draw, paint: Array, strength: float) -> Array:
    """A lighter or darker colour of nearly the same hue; brightness moves by half of ``strength`` to all of it."""
    step = draw.uniform(0.5, 1.0) * strength * (1 if draw.chance(0.5) else -1)
    return np.clip(paint + step + draw.array(3, -0.04, 0.04), 0, 1)


def contrasting(draw: Draw, against: Sequence[Array], distance: float = 0.3) -> Array:
    """A random colour whose brightness differs from that of every given colour by ``distance``, up or down by
    chance."""
    best, best_gap = colour(draw), -1.0
    for _ in range(40):
        value = any_colour(draw)
        gap = min(abs(float(luminance(value) - luminance(np.asarray(other)))) for other in against)
        if gap >= distance:
            return value
        if gap > best_gap:
            best, best_gap = value, gap
    return best


def mix(a: Array, b: Array, weight: Array) -> Array:
    """Colours a and b (3,) blended by a field (h, w) in [0, 1]: (h, w, 3)."""
    return a + (b - a) * weight[..., None]


def over(picture: Array, mask: Array, paint: Array) -> Array:
    """Paint (3,) or (h, w, 3) over the picture where the mask is 1."""
    return picture + (paint - picture) * mask[..., None]


def background(draw: Draw, contrast: float = 0.25) -> tuple[Array, list[Array]]:
    """A soft two-coloured background on the fine grid, (64, 64, 3), and its two colours."""
    x, y = grid()
    first = colour(draw, 0.15, 0.85)
    second = shade_of(draw, first, contrast)
    kind = draw.integer(0, 3)
    u, _ = turned(x, y, SIZE / 2, SIZE / 2, draw.angle())
    weight: Array
    if kind == 0:
        weight = np.clip(u / SIZE + 0.5, 0, 1)
    elif kind == 1:
        weight = smooth_noise(draw, draw.uniform(1.5, 5))
    elif kind == 2:
        weight = (np.sin(u * 2 * math.pi / draw.uniform(5, 14) + draw.angle()) > 0) * 1.0
    else:
        weight = 0.5 * smooth_noise(draw, 2) + 0.5 * smooth_noise(draw, 6)
    return mix(first, second, weight), [first, second]


def disc(x: Array, y: Array, cx: float, cy: float, radius: float) -> Array:
    return (x - cx) ** 2 + (y - cy) ** 2 < radius * radius


def outline_mask(contours: Sequence[Array], size: int = SIZE, fine: int = FINE) -> Array:
    """Where the winding number of closed contours is not zero, (size*fine, size*fine) of 0 and 1."""
    count = size * fine
    line = (np.arange(count) + 0.5) / fine
    turns = np.zeros((count, count + 1))
    for vertices in contours:
        start, end = np.asarray(vertices), np.roll(np.asarray(vertices), -1, axis=0)
        for (x0, y0), (x1, y1) in zip(start, end, strict=True):
            if y0 == y1:
                continue
            low, high = (y0, y1) if y0 < y1 else (y1, y0)
            rows = np.flatnonzero((line >= low) & (line < high))
            crossing = x0 + (line[rows] - y0) * (x1 - x0) / (y1 - y0)
            columns = np.clip(np.ceil(crossing * fine - 0.5), 0, count).astype(int)
            turns[rows, columns] += 1.0 if y1 > y0 else -1.0
    return (np.cumsum(turns, axis=1)[:, :count] != 0) * 1.0
