"""Structured: which way does the long object lie? Bars, leaves and capsules, anywhere, in any colours, with clutter."""

import math

import numpy as np

from petl_make.suite import embedded_task
from petl_make.suite.draw import SIZE, Array, Draw, background, contrasting, disc, grid, over, shrink, turned

BINS = 9


@embedded_task(
    name="orientation",
    group="structured",
    classes=tuple(f"{180 * i // BINS}-{180 * (i + 1) // BINS} degrees" for i in range(BINS)),
    description="The direction of an elongated object, in nine bins of 20 degrees.",
    source="rendered by this project",
    licence="MIT, as this project",
)
def sample(draw: Draw, label: int) -> Array:
    picture, colours = background(draw)
    x, y = grid()
    for _ in range(draw.integer(0, 2)):
        blob = disc(x, y, draw.uniform(0, SIZE), draw.uniform(0, SIZE), draw.uniform(1.5, 3.5))
        picture = over(picture, blob * 1.0, contrasting(draw, colours, 0.2))
    angle = -math.pi * (label + draw.uniform()) / BINS  # y points down, so minus is anticlockwise
    u, v = turned(x, y, SIZE / 2 + draw.uniform(-3.5, 3.5), SIZE / 2 + draw.uniform(-3.5, 3.5), angle)
    half, thick = draw.uniform(10, 14), draw.uniform(2.0, 3.2)
    kind = draw.integer(0, 2)
    if kind == 0:
        shape = (np.abs(u) < half) & (np.abs(v) < thick)
    elif kind == 1:
        shape = (u / half) ** 2 + (v / (thick * 1.3)) ** 2 < 1
    else:
        shape = np.hypot(np.maximum(np.abs(u) - half + thick, 0), v) < thick
    return np.clip(shrink(over(picture, shape * 1.0, contrasting(draw, colours, 0.3))), 0, 1)
