"""The twenty things of the rendered world, as masks. Each is a function of a ``Pen`` and a ``Draw``.

A thing is a list of parts, back to front: a mask on the fine grid and a role (0 body, 1 second part, 2 detail), which a
style may paint apart. Things live in a frame from -1 to 1, x to the right and y down. Proportions are drawn at random,
so that two pictures of one class never hold the same outline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from petl_make.suite.draw import Array, Draw

Part = tuple[Array, int]
Thing = Callable[["Pen", Draw], list[Part]]
THINGS: dict[str, Thing] = {}


class Pen:
    """Simple shapes in the frame of one thing: ``u`` and ``v`` (64, 64) are the frame's coordinates of each point."""

    def __init__(self, u: Array, v: Array) -> None:
        self.u, self.v = u, v

    def ellipse(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Array:
        """Inside an ellipse about (x, y) with half axes rx and ry, turned by ``angle`` (radians)."""
        c, s = math.cos(angle), math.sin(angle)
        a, b = self.u - x, self.v - y
        return ((a * c + b * s) / rx) ** 2 + ((b * c - a * s) / ry) ** 2 < 1

    def box(self, left: float, top: float, right: float, bottom: float) -> Array:
        return (self.u > left) & (self.u < right) & (self.v > top) & (self.v < bottom)

    def polygon(self, *corners: tuple[float, float]) -> Array:
        """Inside a convex polygon whose corners go clockwise as seen (y points down)."""
        inside = np.ones(self.u.shape, dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
            inside &= (x1 - x0) * (self.v - y0) - (y1 - y0) * (self.u - x0) > 0
        return inside

    def bar(self, x0: float, y0: float, x1: float, y1: float, half: float) -> Array:
        """Within ``half`` of the segment from (x0, y0) to (x1, y1)."""
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((self.u - x0) * dx + (self.v - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        return (self.u - x0 - along * dx) ** 2 + (self.v - y0 - along * dy) ** 2 < half * half


def thing(function: Thing) -> Thing:
    """Register a function of the class's name."""
    THINGS[function.__name__] = function
    return function


def _both(masks: Sequence[Array]) -> Array:
    return np.logical_or.reduce(masks)


@thing
def house(p: Pen, d: Draw) -> list[Part]:
    w, top, flat = d.uniform(0.5, 0.8), d.uniform(-0.25, 0.1), d.uniform(0.0, 0.35)
    parts = [(p.box(-w, top, w, 0.8), 0)]
    if d.chance(0.5):
        parts.append((p.box(0.3 * w, -0.8, 0.6 * w, top), 1))
    parts.append((p.polygon((-flat, -0.85), (flat, -0.85), (w + 0.15, top), (-w - 0.15, top)), 1))
    door = d.uniform(-0.5, 0.5) * w
    parts.append((p.box(door - 0.13, 0.8 - d.uniform(0.4, 0.55), door + 0.13, 0.8), 2))
    if d.chance(0.6):
        side = -0.55 * w if door > 0 else 0.55 * w
        parts.append((p.box(side - 0.13, top + 0.15, side + 0.13, top + 0.42), 2))
    return parts


@thing
def tree(p: Pen, d: Draw) -> list[Part]:
    thick = d.uniform(0.09, 0.17)
    parts = [(p.box(-thick, 0.0, thick, 0.9), 1)]
    kind = d.integer(0, 2)
    if kind == 0:
        parts.append((p.ellipse(0, -0.25, d.uniform(0.5, 0.75), d.uniform(0.5, 0.65)), 0))
    elif kind == 1:
        w = d.uniform(0.5, 0.75)
        tiers = [p.polygon((0, y - 0.65), (w * k, y), (-w * k, y)) for y, k in ((-0.25, 0.65), (0.1, 0.85), (0.5, 1.0))]
        parts.append((_both(tiers), 0))
    else:
        blobs = [p.ellipse(x, y + d.uniform(-0.1, 0.1), 0.42, 0.38) for x, y in ((-0.4, -0.1), (0.4, -0.1), (0, -0.5))]
        parts.append((_both(blobs), 0))
    return parts


@thing
def boat(p: Pen, d: Draw) -> list[Part]:
    deck, bow = d.uniform(0.2, 0.4), d.uniform(0.45, 0.7)
    parts: list[Part] = []
    if d.chance(0.65):
        mast = d.uniform(-0.2, 0.15)
        parts.append((p.bar(mast, -0.9, mast, deck, 0.05), 2))
        parts.append(
            (p.polygon((mast + 0.06, -0.85), (mast + d.uniform(0.5, 0.75), deck - 0.1), (mast + 0.06, deck - 0.1)), 1)
        )
        if d.chance(0.5):
            parts.append((p.polygon((mast - 0.06, -0.6), (mast - 0.06, deck - 0.1), (mast - 0.55, deck - 0.1)), 1))
    else:
        parts.append((p.box(-0.45, deck - 0.4, 0.3, deck), 1))
        parts.append((p.box(-0.2, deck - 0.85, 0.02, deck - 0.4), 2))
    parts.append((p.polygon((-0.95, deck), (0.95, deck), (bow, 0.8), (-bow, 0.8)), 0))
    return parts


@thing
def car(p: Pen, d: Draw) -> list[Part]:
    roof, front = d.uniform(-0.5, -0.3), d.uniform(0.35, 0.7)
    back = d.uniform(0.4, 0.85)
    parts = [(p.polygon((-back + 0.2, roof), (front - 0.3, roof), (front, 0.0), (-back, 0.0)), 1)]
    parts.append(
        (
            p.polygon(
                (-back + 0.3, roof + 0.1), (front - 0.37, roof + 0.1), (front - 0.18, -0.02), (-back + 0.18, -0.02)
            ),
            2,
        )
    )
    parts.append((p.box(-0.92, -0.05, 0.92, 0.4), 0))
    wheel = d.uniform(0.18, 0.26)
    parts.append((_both([p.ellipse(x, 0.42, wheel, wheel) for x in (-0.5, 0.5)]), 2))
    return parts


@thing
def plane(p: Pen, d: Draw) -> list[Part]:
    sweep, span, chord = d.uniform(0.1, 0.5), d.uniform(0.75, 0.95), d.uniform(0.28, 0.42)
    parts: list[Part] = []
    for side in (1, -1):
        wing = [(0.25, 0.0), (0.25 - sweep, span), (0.25 - sweep - 0.6 * chord, span), (0.25 - chord, 0.0)]
        tail = [(-0.6, 0.0), (-0.75, 0.4), (-0.9, 0.4), (-0.85, 0.0)]
        for points in (wing, tail):
            corners = [(x, side * y) for x, y in points]
            parts.append((p.polygon(*(corners if side == 1 else corners[::-1])), 1))
    parts.append((p.ellipse(0, 0, 0.95, d.uniform(0.13, 0.19)), 0))
    return parts


@thing
def fish(p: Pen, d: Draw) -> list[Part]:
    high, tail = d.uniform(0.3, 0.5), d.uniform(0.35, 0.5)
    parts = [(p.polygon((-0.95, -tail), (-0.35, 0.0), (-0.95, tail)), 1)]
    if d.chance(0.6):
        parts.append((p.polygon((-0.1, -high - 0.22), (0.3, -0.1), (-0.3, -0.1)), 1))
    parts.append((p.ellipse(0.15, 0, 0.75, high), 0))
    parts.append((p.ellipse(0.58, -0.1, 0.09, 0.09), 2))
    return parts


@thing
def bird(p: Pen, d: Draw) -> list[Part]:
    head, high = d.uniform(0.24, 0.32), d.uniform(0.32, 0.42)
    parts = [(_both([p.bar(x, 0.3, x, 0.88, 0.045) for x in (-0.12, 0.12)]), 2)]
    parts.append((p.polygon((-0.95, d.uniform(-0.35, 0.2)), (-0.2, -0.1), (-0.3, 0.3)), 1))
    parts.append((p.ellipse(-0.05, 0.1, 0.6, high, -0.2), 0))
    parts.append((p.polygon((0.6, -0.55), (0.98, -0.36), (0.6, -0.24)), 2))
    parts.append((p.ellipse(0.45, -0.38, head, head), 0))
    parts.append((p.ellipse(-0.12, 0.08, 0.33, 0.19, 0.2), 1))
    return parts


@thing
def butterfly(p: Pen, d: Draw) -> list[Part]:
    upper, lower, lean = d.uniform(0.4, 0.5), d.uniform(0.26, 0.4), d.uniform(0.3, 0.7)
    parts: list[Part] = []
    for side in (-1, 1):
        parts.append((p.ellipse(side * 0.36, 0.38, lower, lower * 0.8, side * lean), 1))
        parts.append((p.ellipse(side * 0.46, -0.3, upper, upper * 0.75, -side * lean), 0))
    parts.append((p.ellipse(0, 0.05, 0.09, d.uniform(0.55, 0.7)), 2))
    return parts


@thing
def flower(p: Pen, d: Draw) -> list[Part]:
    petals, stem = d.integer(5, 8), d.chance(0.6)
    y, reach = (-0.35, 0.34) if stem else (0.0, 0.52)
    size, start = reach * d.uniform(0.5, 0.62), d.angle()
    parts: list[Part] = []
    if stem:
        parts.append((p.bar(0, y, d.uniform(-0.1, 0.1), 0.95, 0.06), 2))
        if d.chance(0.7):
            parts.append((p.ellipse(0.27, 0.45, 0.26, 0.12, -0.5), 2))
    turns = [start + 2 * math.pi * i / petals for i in range(petals)]
    parts.append((_both([p.ellipse(reach * math.cos(t), y + reach * math.sin(t), size, size) for t in turns]), 0))
    parts.append((p.ellipse(0, y, reach * 0.5, reach * 0.5), 1))
    return parts


@thing
def leaf(p: Pen, d: Draw) -> list[Part]:
    bulge = d.uniform(0.45, 0.9)  # how far the two arcs' centres lie from the middle line
    radius = math.sqrt(bulge * bulge + 0.85 * 0.85)
    blade = p.ellipse(0, bulge, radius, radius) & p.ellipse(0, -bulge, radius, radius)
    parts = [(p.bar(-0.98, 0, -0.7, 0, 0.06), 1), (blade, 0), (p.bar(-0.8, 0, 0.7, 0, 0.045), 2)]
    if d.chance(0.6):
        lines = [p.bar(x, 0, x + 0.2, s * 0.22, 0.035) for x in (-0.4, -0.05, 0.3) for s in (-1, 1)]
        parts.append((_both(lines) & blade, 2))
    return parts


@thing
def mushroom(p: Pen, d: Draw) -> list[Part]:
    wide, rim = d.uniform(0.65, 0.92), d.uniform(-0.1, 0.15)
    foot, neck = d.uniform(0.2, 0.35), d.uniform(0.16, 0.26)
    parts = [(p.polygon((-neck, rim - 0.1), (neck, rim - 0.1), (foot, 0.85), (-foot, 0.85)), 1)]
    cap = p.ellipse(0, rim, wide, d.uniform(0.65, 0.9)) & (p.v < rim)
    parts.append((cap, 0))
    if d.chance(0.65):
        spots = [
            p.ellipse(x + d.uniform(-0.08, 0.08), rim + y, 0.12, 0.11)
            for x, y in ((-0.4, -0.22), (0.05, -0.42), (0.42, -0.2))
        ]
        parts.append((_both(spots) & cap, 2))
    return parts


@thing
def umbrella(p: Pen, d: Draw) -> list[Part]:
    rim, wide, hook = d.uniform(-0.1, 0.1), d.uniform(0.8, 0.97), 0.18 * (1 if d.chance(0.5) else -1)
    ring = p.ellipse(hook, 0.72, 0.22, 0.22) & ~p.ellipse(hook, 0.72, 0.12, 0.12) & (p.v > 0.72)
    parts = [(p.bar(0, -0.95, 0, 0.72, 0.05) | ring, 2)]
    canopy = p.ellipse(0, rim, wide, d.uniform(0.7, 0.88)) & (p.v < rim)
    for x in (-2, 0, 2):
        canopy &= ~p.ellipse(x * wide / 3, rim, wide / 3, 0.16)
    parts.append((canopy, 0))
    if d.chance(0.6):
        parts.append((canopy & (np.abs(p.u) < wide / 3), 1))
    return parts


@thing
def lamp(p: Pen, d: Draw) -> list[Part]:
    top, wide, rim = d.uniform(0.2, 0.4), d.uniform(0.55, 0.75), d.uniform(-0.15, 0.1)
    parts = [(p.bar(0, rim, 0, 0.8, d.uniform(0.05, 0.09)), 1)]
    parts.append((p.ellipse(0, 0.82, d.uniform(0.35, 0.5), 0.12), 1))
    parts.append((p.polygon((-top, -0.85), (top, -0.85), (wide, rim), (-wide, rim)), 0))
    return parts


@thing
def chair(p: Pen, d: Draw) -> list[Part]:
    seat, wide, leg = d.uniform(0.05, 0.25), d.uniform(0.45, 0.6), d.uniform(0.05, 0.09)
    lean = d.uniform(0.0, 0.2)
    parts = [(p.bar(-wide, seat, -wide - lean, -0.9, d.uniform(0.07, 0.12)), 1)]
    parts.append((_both([p.bar(x, seat, x * 1.1, 0.9, leg) for x in (-wide, wide)]), 1))
    if d.chance(0.4):
        parts.append((p.bar(-wide, 0.6, wide, 0.6, 0.045), 2))
    parts.append((p.box(-wide - 0.1, seat - 0.09, wide + 0.1, seat + 0.09), 0))
    return parts


@thing
def table(p: Pen, d: Draw) -> list[Part]:
    top, wide, leg = d.uniform(-0.35, -0.05), d.uniform(0.8, 0.95), d.uniform(0.05, 0.1)
    parts: list[Part] = []
    if d.chance(0.75):
        parts.append((_both([p.bar(x, top, x * 1.08, 0.75, leg) for x in (-0.8 * wide, 0.8 * wide)]), 1))
        if d.chance(0.4):
            parts.append((_both([p.bar(x, top, x, 0.55, leg) for x in (-0.4, 0.4)]), 1))
    else:
        parts.append((p.bar(0, top, 0, 0.7, leg * 1.4) | p.box(-0.4, 0.65, 0.4, 0.78), 1))
    parts.append((p.box(-wide, top - d.uniform(0.08, 0.13), wide, top + d.uniform(0.04, 0.1)), 0))
    return parts


@thing
def cup(p: Pen, d: Draw) -> list[Part]:
    top, foot, rim = d.uniform(0.5, 0.65), d.uniform(0.3, 0.5), d.uniform(-0.5, -0.25)
    size = d.uniform(0.26, 0.36)
    ring = p.ellipse(0.58, 0.12, size, size) & ~p.ellipse(0.58, 0.12, size - 0.12, size - 0.12)
    parts = [(ring, 1), (p.polygon((-top, rim), (top, rim), (foot, 0.75), (-foot, 0.75)), 0)]
    parts.append((p.ellipse(0, rim, top, 0.12), 2))
    if d.chance(0.4):
        parts.append((p.box(-0.8, 0.72, 0.8, 0.85), 1))
    return parts


@thing
def bottle(p: Pen, d: Draw) -> list[Part]:
    wide, neck, shoulder = d.uniform(0.26, 0.4), d.uniform(0.09, 0.15), d.uniform(-0.35, -0.1)
    parts = [(p.box(-neck, -0.85, neck, shoulder), 0)]
    parts.append(
        (p.polygon((-neck, shoulder - 0.2), (neck, shoulder - 0.2), (wide, shoulder + 0.1), (-wide, shoulder + 0.1)), 0)
    )
    parts.append((p.box(-wide, shoulder + 0.05, wide, 0.92), 0))
    parts.append((p.box(-neck - 0.03, -0.97, neck + 0.03, -0.8), 2))
    if d.chance(0.6):
        parts.append((p.box(-wide, shoulder + 0.3, wide, d.uniform(0.45, 0.7)), 1))
    return parts


@thing
def key(p: Pen, d: Draw) -> list[Part]:
    size, thick = d.uniform(0.3, 0.4), d.uniform(0.07, 0.1)
    ring = p.ellipse(-0.58, 0, size, size) & ~p.ellipse(-0.58, 0, size * 0.5, size * 0.5)
    shaft = p.bar(-0.58 + size, 0, 0.9, 0, thick)
    teeth = [
        p.box(x, 0, x + 0.12, d.uniform(0.25, 0.42)) for x in ((0.45, 0.72) if d.chance(0.6) else (0.4, 0.58, 0.78))
    ]
    return [(shaft, 0), (_both(teeth), 0), (ring, 1)]


@thing
def hammer(p: Pen, d: Draw) -> list[Part]:
    x, wide = d.uniform(-0.1, 0.1), d.uniform(0.45, 0.62)
    parts = [(p.bar(x, -0.5, x, 0.9, d.uniform(0.07, 0.12)), 1)]
    low = -0.5 + d.uniform(0.05, 0.15)
    parts.append((p.box(x - wide, -0.85, x + 0.2, low), 0))
    parts.append((p.polygon((x + 0.2, -0.85), (x + wide + 0.15, -0.7), (x + 0.2, low)), 0))
    return parts


@thing
def spoon(p: Pen, d: Draw) -> list[Part]:
    long = d.uniform(0.28, 0.38)
    bowl = p.ellipse(0.0, -0.55, d.uniform(0.2, 0.3), long)
    parts = [(p.bar(0, -0.3, 0, 0.92, d.uniform(0.055, 0.09)), 1), (bowl, 0)]
    if d.chance(0.5):
        parts.append((p.ellipse(0.0, -0.55, 0.12, long * 0.6), 2))
    return parts
