"""Structured: how many objects? Sizes vary between pictures, so that the painted area does not tell."""

import math

import numpy as np

from petl_make.suite import embedded_task
from petl_make.suite.draw import SIZE, Array, Draw, background, contrasting, disc, grid, over, shrink, turned

MOST = 8


def blob(draw: Draw, cx: float, cy: float, radius: float) -> Array:
    """One object: disc, square, triangle or ring, turned at random."""
    x, y = grid()
    kind = draw.integer(0, 3)
    if kind == 0:
        return disc(x, y, cx, cy, radius)
    if kind == 1:
        return disc(x, y, cx, cy, radius * 1.1) & ~disc(x, y, cx, cy, radius * 0.5)
    u, v = turned(x, y, cx, cy, draw.angle())
    if kind == 2:
        return (np.abs(u) < radius * 0.85) & (np.abs(v) < radius * 0.85)
    return (v < radius * 0.6) & (v > -radius * 1.1 + 1.7 * np.abs(u))


@embedded_task(
    name="count",
    group="structured",
    classes=tuple(str(n) for n in range(1, MOST + 1)),
    description="How many objects there are, one to eight.",
    source="rendered by this project",
    licence="MIT, as this project",
)
def sample(draw: Draw, label: int) -> Array:
    picture, colours = background(draw)
    typical = draw.uniform(2.2, 3.6)
    places: list[tuple[float, float, float]] = []
    while len(places) < label + 1:
        radius = typical * draw.uniform(0.85, 1.2)
        cx, cy = draw.uniform(radius, SIZE - radius), draw.uniform(radius, SIZE - radius)
        if all(math.hypot(cx - px, cy - py) > radius + other + 0.8 for px, py, other in places):
            places.append((cx, cy, radius))
    for cx, cy, radius in places:
        picture = over(picture, blob(draw, cx, cy, radius) * 1.0, contrasting(draw, colours, 0.3))
    return np.clip(shrink(picture), 0, 1)
