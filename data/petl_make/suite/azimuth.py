"""Structured: from which side is the object seen? A lorry or a boat made of boxes, anywhere near the middle."""

import math

import numpy as np

from petl_make.suite import embedded_task
from petl_make.suite.draw import Array, Draw, background, contrasting, shrink
from petl_make.suite.rays import Ball, Box, camera, render

BINS = 8
# parts: x (forwards), y (to the left), z (up) of the centre, half extents, which of the object's two paints
Part = tuple[tuple[float, float, float], tuple[float, float, float], int]
OBJECTS: dict[str, list[Part]] = {
    "lorry": [((-0.3, 0, 0.35), (0.75, 0.42, 0.45), 0), ((0.75, 0, 0.15), (0.25, 0.4, 0.28), 1)],
    "boat": [
        ((-0.4, 0, 0), (0.6, 0.5, 0.3), 0),
        ((0.4, 0, 0), (0.3, 0.3, 0.3), 1),
        ((0.85, 0, 0), (0.2, 0.14, 0.3), 1),
    ],
}


@embedded_task(
    name="azimuth",
    group="structured",
    classes=tuple(f"{360 * i // BINS}-{360 * (i + 1) // BINS} degrees" for i in range(BINS)),
    description="The side from which a lorry or a boat is seen, in eight bins of 45 degrees.",
    source="rendered by this project",
    licence="MIT, as this project",
)
def sample(draw: Draw, label: int) -> Array:
    azimuth = 2 * math.pi * (label + draw.uniform()) / BINS
    backdrop, colours = background(draw)
    first = contrasting(draw, colours, 0.25)
    paints = [first, contrasting(draw, [first], 0.3)]
    c, s = math.cos(azimuth), math.sin(azimuth)
    things: list[Box | Ball] = []
    for (x, y, z), half, paint in draw.pick(list(OBJECTS.values())):
        centre = np.array([x * c - y * s, x * s + y * c, z])
        things.append(Box(centre, np.array(half) * draw.uniform(0.9, 1.1), azimuth, paints[paint]))
    height, reach = draw.uniform(0.4, 0.65), draw.uniform(4.5, 5.2)  # elevation in radians, distance
    position = np.array([reach * math.cos(height), 0.0, reach * math.sin(height)])
    rays = camera(position, draw.array(3, -0.4, 0.4), draw.uniform(3.4, 3.8))
    lamp = np.array([draw.uniform(0.2, 1), draw.uniform(-1, 1), draw.uniform(0.5, 1.2)])
    picture = render(things, position, rays, backdrop, lamp / np.linalg.norm(lamp), ambient=0.15)
    return np.clip(shrink(picture), 0, 1)
