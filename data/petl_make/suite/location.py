"""Structured: in which column is the cross? A disc may lie about."""

import math

import numpy as np

from petl_make.suite import embedded_task
from petl_make.suite.draw import SIZE, Array, Draw, background, contrasting, disc, grid, over, shrink, turned

BINS = 8
MARGIN = 5.5


def cross(x: Array, y: Array, cx: float, cy: float, size: float, angle: float) -> Array:
    u, v = turned(x, y, cx, cy, angle)
    arm = size * 0.3
    return ((np.abs(u) < arm) & (np.abs(v) < size)) | ((np.abs(v) < arm) & (np.abs(u) < size))


@embedded_task(
    name="location",
    group="structured",
    classes=tuple(f"column {i}" for i in range(BINS)),
    description="The horizontal position, in eight bins, of the one cross beside which a disc may lie.",
    source="rendered by this project",
    licence="MIT, as this project",
)
def sample(draw: Draw, label: int) -> Array:
    picture, colours = background(draw)
    x, y = grid()
    cx = MARGIN + (SIZE - 2 * MARGIN) * (label + draw.uniform()) / BINS
    cy = draw.uniform(MARGIN, SIZE - MARGIN)
    size = draw.uniform(6.0, 7.5)
    places = [(cx, cy, size)]
    for _ in range(draw.integer(0, 1)):
        for _ in range(30):
            radius = draw.uniform(2.0, 3.5)
            px, py = draw.uniform(2, SIZE - 2), draw.uniform(2, SIZE - 2)
            if all(math.hypot(px - ox, py - oy) > radius * 1.2 + other for ox, oy, other in places):
                places.append((px, py, radius))
                break
    for px, py, radius in places[1:]:
        picture = over(picture, disc(x, y, px, py, radius) * 1.0, contrasting(draw, colours, 0.3))
    target = cross(x, y, cx, cy, size, draw.angle())
    return np.clip(shrink(over(picture, target * 1.0, contrasting(draw, colours, 0.4))), 0, 1)
