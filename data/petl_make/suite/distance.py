"""Structured: how far is the nearest object? Balls and boxes on tiles, seen by a camera of varying height and tilt."""

import math

import numpy as np

from petl_make.suite import embedded_task
from petl_make.suite.draw import Array, Draw, colour, contrasting, mix, shade_of, shrink
from petl_make.suite.rays import Ball, Box, camera, render

BINS = 6
NEAR, FAR_END = 2.5, 9.0


@embedded_task(
    name="distance",
    group="structured",
    classes=tuple(f"{NEAR * (FAR_END / NEAR) ** (i / BINS):.1f} or more" for i in range(BINS)),
    description="The distance of the nearest of one to three objects, in six bins of equal ratio.",
    source="rendered by this project",
    licence="MIT, as this project",
)
def sample(draw: Draw, label: int) -> Array:
    height = draw.uniform(1.4, 2.0)
    position = np.array([0.0, 0.0, height])
    rays = camera(position, np.array([6.0, 0.0, draw.uniform(-0.3, 0.5)]), draw.uniform(1.5, 1.8))
    down = rays[..., 2] < -0.02
    t = np.where(down, -height / np.where(down, rays[..., 2], -1), 0)
    gx, gy = t * rays[..., 0], t * rays[..., 1]
    tile, first = draw.uniform(0.8, 1.6), colour(draw, 0.2, 0.8)
    second = shade_of(draw, first, 0.2)
    checks = ((np.floor(gx / tile + draw.uniform()) + np.floor(gy / tile + draw.uniform())) % 2) * (t < 25)
    sky = contrasting(draw, [first], 0.1)
    backdrop = np.where(down[..., None], mix(first, second, checks), sky)

    closest = NEAR * (FAR_END / NEAR) ** ((label + draw.uniform()) / BINS)
    things: list[Box | Ball] = []
    for number in range(draw.integer(1, 3)):
        reach = closest if number == 0 else closest + draw.uniform(0.3, 1.0) * (12 - closest)
        size, side = draw.uniform(0.45, 0.75), draw.uniform(-0.3, 0.3)
        x, y = reach * math.cos(side), reach * math.sin(side)
        paint = contrasting(draw, [first, second, sky], 0.2)
        shadow = (gx - x) ** 2 + (gy - y) ** 2 < (size * 1.3) ** 2
        backdrop = np.where((shadow & down)[..., None], backdrop * 0.5, backdrop)
        if draw.chance(0.5):
            things.append(Ball(np.array([x, y, size]), size, paint))
        else:
            things.append(Box(np.array([x, y, size]), np.full(3, size * 0.85), draw.angle(), paint))
    lamp = np.array([-draw.uniform(0.2, 1), draw.uniform(-1, 1), draw.uniform(0.6, 1.5)])
    return np.clip(shrink(render(things, position, rays, backdrop, lamp / np.linalg.norm(lamp))), 0, 1)
