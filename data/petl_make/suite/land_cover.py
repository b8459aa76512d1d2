"""Specialised: rendered land cover seen from above. Every picture has a random palette, as false colours do."""

import math

import numpy as np

from petl_make.suite import embedded_task
from petl_make.suite.draw import (
    Array,
    Draw,
    colour,
    contrasting,
    disc,
    grid,
    mix,
    over,
    shade_of,
    shrink,
    smooth_noise,
    turned,
)

CLASSES = ("fields", "forest", "orchard", "river", "road", "residential", "industrial", "lake", "dunes", "coast")


def ground(draw: Draw, paint: Array, strength: float = 0.25) -> Array:
    """Rough open land of about one colour, (64, 64, 3)."""
    other = shade_of(draw, paint, strength)
    weight = 0.4 * smooth_noise(draw, 3) + 0.3 * smooth_noise(draw, 8) + 0.3 * smooth_noise(draw, 20)
    return mix(paint, other, np.clip(weight * 2 - 0.5, 0, 1))


def fields(draw: Draw, base: Array) -> Array:
    x, y = grid()
    u, v = turned(x, y, draw.uniform(8, 24), draw.uniform(8, 24), draw.angle())
    width, height = draw.uniform(10, 16), draw.uniform(7, 12)
    row = np.floor(v / height).astype(int)
    column = np.floor((u + (row % 2) * draw.uniform(0, width)) / width).astype(int)
    paints = np.clip(base + draw.array((7, 3), -0.4, 0.4), 0, 1)
    plot = (row * 3 + column * 5) % 7
    picture = paints[plot]
    furrows = 0.08 * np.sin((u if draw.chance(0.5) else v) * 2 * math.pi / draw.uniform(2.5, 4))
    return picture + furrows[..., None] * (plot % 2)[..., None]


def trees(
    draw: Draw, picture: Array, centres: list[tuple[float, float]], radius: tuple[float, float], paint: Array
) -> Array:
    """Crowns with a shadow to one side."""
    x, y = grid()
    sun = draw.angle()
    dx, dy = math.cos(sun), math.sin(sun)
    for cx, cy in centres:
        size = draw.uniform(*radius)
        picture = over(picture, disc(x, y, cx + dx * size * 0.5, cy + dy * size * 0.5, size) * 0.6, np.zeros(3))
        crown = np.clip(paint + draw.uniform(-0.12, 0.12), 0, 1)
        picture = over(picture, disc(x, y, cx, cy, size) * 1.0, crown)
    return picture


def forest(draw: Draw, base: Array) -> Array:
    crown = contrasting(draw, [base * 0.4], 0.15)
    centres = [(draw.uniform(-1, 33), draw.uniform(-1, 33)) for _ in range(110)]
    return trees(draw, ground(draw, base * 0.4), centres, (1.4, 2.8), crown)


def orchard(draw: Draw, base: Array) -> Array:
    angle, step = draw.angle(), draw.uniform(4.2, 6.0)
    c, s = math.cos(angle), math.sin(angle)
    ox, oy = draw.uniform(-2, 2), draw.uniform(-2, 2)
    steps = [(i * step + ox, j * step + oy) for i in range(-5, 6) for j in range(-5, 6)]
    centres = [(16 + a * c - b * s, 16 + a * s + b * c) for a, b in steps]
    size = step * draw.uniform(0.27, 0.38)
    return trees(draw, ground(draw, base), centres, (size * 0.9, size * 1.1), contrasting(draw, [base], 0.2))


def band(draw: Draw, wave: float) -> Array:
    """Distance across a band that runs through the picture in any direction; ``wave`` is its swing in pixels."""
    x, y = grid()
    u, v = turned(x, y, 16 + draw.uniform(-6, 6), 16 + draw.uniform(-6, 6), draw.angle())
    return v + wave * np.sin(u * 2 * math.pi / draw.uniform(18, 34) + draw.angle())


def river(draw: Draw, base: Array) -> Array:
    water = contrasting(draw, [base], 0.15)
    across = np.abs(band(draw, draw.uniform(3.0, 6.0)))
    return over(ground(draw, base), (across < draw.uniform(1.8, 3.5)) * 1.0, water)


def road(draw: Draw, base: Array) -> Array:
    picture, paint = ground(draw, base), contrasting(draw, [base], 0.15)
    width = draw.uniform(1.2, 2.2)
    lanes = [np.abs(band(draw, 0.0))]
    if draw.chance(0.4):
        lanes.append(np.abs(band(draw, 0.0)))
    for across in lanes:
        picture = over(picture, (across < width) * 1.0, paint)
    for across in lanes:
        picture = over(picture, (across < 0.35) * 1.0, contrasting(draw, [paint], 0.3))
    return picture


def roofs(draw: Draw, picture: Array, pitch: tuple[float, float], fill: tuple[float, float], paints: Array) -> Array:
    """Rectangular roofs on a turned street grid, each with a shadow."""
    x, y = grid()
    angle = draw.angle()
    wide, high = draw.uniform(*pitch), draw.uniform(*pitch)
    u, v = turned(x, y, 16 + draw.uniform(-4, 4), 16 + draw.uniform(-4, 4), angle)
    for i in range(-5, 6):
        for j in range(-5, 6):
            cu, cv = (i + draw.uniform(-0.1, 0.1)) * wide, (j + draw.uniform(-0.1, 0.1)) * high
            half_u, half_v = wide * draw.uniform(*fill) / 2, high * draw.uniform(*fill) / 2
            if cu * cu + cv * cv > 30 * 30:
                continue
            shadow = (np.abs(u - cu - 0.6) < half_u) & (np.abs(v - cv - 0.6) < half_v)
            picture = over(picture, shadow * 0.7, np.zeros(3))
            roof = (np.abs(u - cu) < half_u) & (np.abs(v - cv) < half_v)
            shade = 1.0 - 0.25 * (v > cv)
            picture = np.where(roof[..., None], paints[draw.integer(0, len(paints) - 1)] * shade[..., None], picture)
    return picture


def residential(draw: Draw, base: Array) -> Array:
    paints = np.array([contrasting(draw, [base], 0.2) for _ in range(3)])
    return roofs(draw, ground(draw, base), (5.0, 7.5), (0.45, 0.7), paints)


def industrial(draw: Draw, base: Array) -> Array:
    paints = np.array([contrasting(draw, [base], 0.25) for _ in range(2)])
    return roofs(draw, ground(draw, base, 0.1), (13, 22), (0.55, 0.85), paints)


def lake(draw: Draw, base: Array) -> Array:
    x, y = grid()
    cx, cy = draw.uniform(10, 22), draw.uniform(10, 22)
    bend = (smooth_noise(draw, 4) - 0.5) * draw.uniform(6, 12)
    water = np.hypot(x - cx, (y - cy) * draw.uniform(0.8, 1.5)) + bend < draw.uniform(6, 10)
    return over(ground(draw, base), water * 1.0, contrasting(draw, [base], 0.15))


def dunes(draw: Draw, base: Array) -> Array:
    x, y = grid()
    u, _ = turned(x, y, 16, 16, draw.angle())
    phase = u + 6 * smooth_noise(draw, 2.5) + 2 * smooth_noise(draw, 6)
    ridge = (phase / draw.uniform(4.5, 8)) % 1.0
    return mix(base, contrasting(draw, [base], 0.2), ridge**1.5)


def coast(draw: Draw, base: Array) -> Array:
    across = band(draw, draw.uniform(0.5, 2.0)) + 4 * (smooth_noise(draw, 4) - 0.5)
    water = contrasting(draw, [base], 0.15)
    picture = over(ground(draw, base), (across > 0) * 1.0, water)
    return over(picture, (np.abs(across + 1.2) < draw.uniform(0.7, 1.5)) * 1.0, contrasting(draw, [base, water], 0.2))


DRAWERS = (fields, forest, orchard, river, road, residential, industrial, lake, dunes, coast)


@embedded_task(
    name="land_cover",
    group="specialised",
    classes=CLASSES,
    description="Which of ten kinds of land, seen from above in any direction, in a palette of its own.",
    source="rendered by this project",
    licence="MIT, as this project",
)
def sample(draw: Draw, label: int) -> Array:
    return np.clip(shrink(DRAWERS[label](draw, colour(draw, 0.25, 0.75))), 0, 1)
