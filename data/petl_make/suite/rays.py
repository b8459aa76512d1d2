"""A small ray caster for the rendered 3-D tasks: boxes, spheres and a ground plane, lit by one lamp. z points up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from petl_make.suite.draw import FINE, SIZE, Array

FAR = 1e9


@dataclass(frozen=True)
class Box:
    """A box standing at ``centre`` (3,) with half extents ``half`` (3,), turned about the vertical by ``turn``
    radians."""

    centre: Array
    half: Array
    turn: float
    paint: Array


@dataclass(frozen=True)
class Ball:
    centre: Array
    radius: float
    paint: Array


def camera(position: Array, target: Array, zoom: float) -> Array:
    """Unit ray directions (64, 64, 3) of a perspective camera; ``zoom`` is focal length over half the picture's
    width."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.array([forward[1], -forward[0], 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    line = ((np.arange(SIZE * FINE) + 0.5) / (SIZE * FINE) - 0.5) * 2 / zoom
    a, b = np.meshgrid(line, -line)
    rays = forward + a[..., None] * right + b[..., None] * up
    return rays / np.sqrt((rays**2).sum(-1, keepdims=True))


def hit_box(box: Box, position: Array, rays: Array) -> tuple[Array, Array]:
    """Distance along each ray (FAR where it misses) and the outward normal."""
    c, s = math.cos(box.turn), math.sin(box.turn)
    frame = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])  # rows: the box's axes
    start = frame @ (position - box.centre)
    ways = np.stack([rays[..., 0] * c + rays[..., 1] * s, rays[..., 1] * c - rays[..., 0] * s, rays[..., 2]], axis=-1)
    ways = np.where(np.abs(ways) < 1e-9, 1e-9, ways)
    near, away = (-np.sign(ways) * box.half - start) / ways, (np.sign(ways) * box.half - start) / ways
    axis = near.argmax(axis=-1)
    enter, leave = near.max(axis=-1), away.min(axis=-1)
    distance = np.where((enter < leave) & (enter > 0), enter, FAR)
    side = -np.take_along_axis(np.sign(ways), axis[..., None], axis=-1)
    return distance, frame[axis] * side


def hit_ball(ball: Ball, position: Array, rays: Array) -> tuple[Array, Array]:
    offset = position - ball.centre
    b = (rays * offset).sum(-1)
    inside = b * b - (offset @ offset - ball.radius**2)
    distance = -b - np.sqrt(np.maximum(inside, 0))
    distance = np.where((inside > 0) & (distance > 0), distance, FAR)
    return distance, (offset + rays * distance[..., None]) / ball.radius


def render(
    things: list[Box | Ball], position: Array, rays: Array, backdrop: Array, lamp: Array, ambient: float = 0.35
) -> Array:
    """The picture (64, 64, 3): the nearest thing's paint times ambient plus diffuse light, or the backdrop."""
    picture, nearest = backdrop, np.full(rays.shape[:2], FAR)
    for thing in things:
        distance, normal = hit_box(thing, position, rays) if isinstance(thing, Box) else hit_ball(thing, position, rays)
        light = ambient + (1 - ambient) * np.maximum((normal * lamp).sum(-1), 0)
        picture = np.where((distance < nearest)[..., None], thing.paint * light[..., None], picture)
        nearest = np.minimum(nearest, distance)
    return picture
