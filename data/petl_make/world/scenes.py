"""Where a thing lies in a picture, and the styles that a picture of it can have.

A scene is a map of parts; a style turns it into colours. ``photo`` is the target's style; ``sketch`` is the sketch
shift's; those in ``RENDITIONS`` make up the renditions shift. Colours are drawn for each picture without looking at
the class, lighter or darker than the background by chance, so that no colour tells the class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from petl_make.suite.draw import (
    FINE,
    SIZE,
    Array,
    Draw,
    background,
    colour,
    contrasting,
    disc,
    grid,
    over,
    shade_of,
    shrink,
    smooth_noise,
    turned,
)
from petl_make.world.objects import THINGS, Pen

CLASSES = tuple(THINGS)


@dataclass(frozen=True)
class Pose:
    """How things are placed: ranges of the half size (pixels), of the turn (radians, either way) and of the warp."""

    small: float = 8.5
    large: float = 13.5
    turn: float = 0.5
    warp: float = 0.12


@dataclass(frozen=True)
class Scene:
    """One thing in a picture. ``order`` (64, 64): 0 where there is ground, else 1 + the part's place in the list;
    ``roles``: the role of each part, in the same order; ``half`` in pixels and ``turn`` in radians."""

    order: Array
    roles: tuple[int, ...]
    half: float
    turn: float

    @property
    def thing(self) -> Array:
        """Where the thing is, bool (64, 64)."""
        return self.order > 0

    def role(self, number: int) -> Array:
        """Where parts of a role are seen, bool (64, 64)."""
        wanted = [i + 1 for i, role in enumerate(self.roles) if role == number]
        return np.isin(self.order, wanted)

    def lines(self) -> Array:
        """Where two parts, or a part and the ground, meet: bool (64, 64), two fine points wide."""
        lines = np.zeros(self.order.shape, dtype=bool)
        for axis in (0, 1):
            change = np.diff(self.order, axis=axis) != 0
            lower, upper = [slice(None)] * 2, [slice(None)] * 2
            lower[axis], upper[axis] = slice(1, None), slice(None, -1)
            lines[tuple(lower)] |= change
            lines[tuple(upper)] |= change
        return lines


def scene(draw: Draw, label: int, pose: Pose = Pose()) -> Scene:
    """A thing of a class, placed, turned, mirrored or not, and bent a little."""
    half, turn = draw.uniform(pose.small, pose.large), draw.uniform(-pose.turn, pose.turn)
    room = max(SIZE / 2 - half, 0.0) + 1.5
    x, y = grid()
    u, v = turned(x, y, SIZE / 2 + draw.uniform(-room, room), SIZE / 2 + draw.uniform(-room, room), turn)
    u, v = u / half, v / (half * draw.uniform(0.85, 1.15))
    u = -u if draw.chance(0.5) else u
    u = u + draw.uniform(-0.25, 0.25) * v + pose.warp * (smooth_noise(draw, 2.5) * 2 - 1)
    v = v + pose.warp * (smooth_noise(draw, 2.5) * 2 - 1)
    order, parts = np.zeros(x.shape, dtype=np.int64), THINGS[CLASSES[label]](Pen(u, v), draw)
    for i, (mask, _) in enumerate(parts):
        order[mask] = i + 1
    return Scene(order, tuple(role for _, role in parts), half, turn)


Style = Callable[[Draw, Scene], Array]
STYLES: dict[str, Style] = {}
RENDITIONS = ("cartoon", "painting", "mosaic", "engraving", "window", "dots", "relief", "neon")


def style(function: Style) -> Style:
    """Register ``function(draw, scene)``, which returns intensities (32, 32, 3), as the style of its name."""
    STYLES[function.__name__] = function
    return function


def picture_of(draw: Draw, at: Scene, name: str) -> Array:
    """A scene in a style, (32, 32, 3) in [0, 1]."""
    return np.clip(STYLES[name](draw, at), 0, 1)


def picture(draw: Draw, label: int, name: str, pose: Pose = Pose()) -> Array:
    """One picture of a class in a style, (32, 32, 3) in [0, 1]."""
    return picture_of(draw, scene(draw, label, pose), name)


def _paints(draw: Draw, grounds: list[Array], contrast: float) -> list[Array]:
    """Three paints for the roles 0, 1 and 2: the first off the ground, the others off the first and the ground."""
    body = contrasting(draw, grounds, contrast)
    second = contrasting(draw, [body, grounds[0]], contrast * 0.6)
    return [body, second, contrasting(draw, [body], contrast)]


def _filled(draw: Draw, at: Scene, ground: Array, paints: list[Array]) -> Array:
    """The thing in flat paints over a ground (64, 64, 3)."""
    table = np.stack([np.zeros(3), *(paints[role] for role in at.roles)])
    return np.where(at.thing[..., None], table[at.order], ground)


def _clutter(draw: Draw, ground: Array, colours: list[Array], most: int) -> Array:
    """Up to ``most`` bars and blobs on the ground, which belong to no class."""
    x, y = grid()
    for _ in range(draw.integer(1, most)):
        cx, cy = draw.uniform(0, SIZE), draw.uniform(0, SIZE)
        if draw.chance(0.5):
            mask = disc(x, y, cx, cy, draw.uniform(2, 6))
        else:
            u, v = turned(x, y, cx, cy, draw.angle())
            mask = (np.abs(u) < draw.uniform(4, 14)) & (np.abs(v) < draw.uniform(0.7, 2.5))
        ground = over(ground, mask * 1.0, contrasting(draw, colours[:1], 0.2))
    return ground


def _flat(draw: Draw) -> tuple[Array, Array]:
    """A plain ground (64, 64, 3) and its colour."""
    paint = colour(draw)
    return np.broadcast_to(paint, (SIZE * FINE, SIZE * FINE, 3)), paint


def _blur(image: Array) -> Array:
    """Mean with the four neighbours, (h, w, 3); the frame repeats."""
    wide = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return (2 * image + wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 6


@style
def photo(draw: Draw, at: Scene) -> Array:
    """Lit from a side, with texture and a shadow, on a cluttered ground, perhaps partly covered; grain and blur."""
    ground, colours = background(draw, 0.35)
    ground = _clutter(draw, ground, colours, 3)
    away = (draw.integer(-5, 5), draw.integer(-5, 5))
    shadow = np.roll(at.thing, away, axis=(0, 1)) * draw.uniform(0.0, 0.5)
    ground = ground * (1 - shadow[..., None])
    image = _filled(draw, at, ground, _paints(draw, colours, draw.uniform(0.18, 0.4)))
    x, y = grid()
    u, _ = turned(x, y, SIZE / 2, SIZE / 2, draw.angle())
    light = (
        1 + draw.uniform(0.1, 0.45) * u / 12 + draw.uniform(0.1, 0.5) * (smooth_noise(draw, draw.uniform(4, 12)) - 0.5)
    )
    image = np.where(at.thing[..., None], image * light[..., None], image)
    if draw.chance(0.35):  # something in front
        u, v = turned(x, y, draw.uniform(6, 26), draw.uniform(6, 26), draw.angle())
        image = over(image, (np.abs(v) < draw.uniform(1.0, 2.2)) * 1.0, shade_of(draw, colours[1], 0.5))
    image = shrink(image)
    for _ in range(draw.integer(0, 1)):
        image = _blur(image)
    return image * draw.uniform(0.7, 1.2) + draw.array(image.shape, -1, 1) * draw.uniform(0.02, 0.1)


@style
def sketch(draw: Draw, at: Scene) -> Array:
    """Thin dark lines on light paper, broken here and there; no fill but a few strokes of shade."""
    lines = at.lines() & (smooth_noise(draw, 9) > draw.uniform(0.08, 0.22))
    ink = lines * draw.uniform(0.65, 1.0)
    if draw.chance(0.4):
        x, y = grid()
        u, _ = turned(x, y, 0, 0, draw.angle())
        strokes = (u / draw.uniform(1.6, 2.6) % 1.0 < 0.3) & at.role(draw.integer(0, 2))
        ink = np.maximum(ink, strokes * draw.uniform(0.3, 0.6))
    paper = draw.uniform(0.82, 1.0) + 0.08 * (smooth_noise(draw, 6) - 0.5)
    image = shrink(paper * (1 - ink) + draw.uniform(0.0, 0.2) * ink)
    return np.repeat(image[..., None], 3, axis=2) + draw.array((SIZE, SIZE, 1), -0.03, 0.03)


@style
def chalk(draw: Draw, at: Scene) -> Array:
    """Rough light lines on a dark board."""
    lines = at.lines() & (draw.array(at.order.shape) > draw.uniform(0.1, 0.4))
    board = draw.array(3, 0.05, 0.3) + 0.12 * smooth_noise(draw, 4)[..., None]
    return shrink(over(board, lines * 1.0, 1 - draw.array(3, 0.0, 0.25)))


@style
def cartoon(draw: Draw, at: Scene) -> Array:
    """Flat paints and a thick dark outline on a plain ground."""
    ground, paint = _flat(draw)
    image = _filled(draw, at, ground, _paints(draw, [paint], 0.25))
    lines = at.lines()
    lines = lines | np.roll(lines, 1, axis=0) | np.roll(lines, 1, axis=1)
    return shrink(over(image, lines * 1.0, draw.array(3, 0.0, 0.12)))


@style
def painting(draw: Draw, at: Scene) -> Array:
    """Broad strokes that carry colour over the edges."""
    ground, colours = background(draw, 0.4)
    image = _filled(draw, at, ground, _paints(draw, colours, 0.25))
    x, y = grid()
    reach = draw.uniform(2.0, 4.5)
    ways = [(smooth_noise(draw, 11) - 0.5) * 2 * reach for _ in (0, 1)]
    rows, columns = (
        np.clip(np.floor((c * FINE) + w), 0, SIZE * FINE - 1).astype(int) for c, w in zip((y, x), ways, strict=True)
    )
    strokes = 0.22 * (smooth_noise(draw, draw.uniform(10, 16)) - 0.5)
    return shrink(image[rows, columns] + strokes[..., None])


@style
def mosaic(draw: Draw, at: Scene) -> Array:
    """Square tiles of two pixels with a shade of their own, and joints between some of them."""
    ground, colours = background(draw, 0.2)
    image = _filled(draw, at, ground, _paints(draw, colours, 0.3))
    tiles = shrink(image, 2 * FINE) + draw.array((SIZE // 2, SIZE // 2, 1), -0.1, 0.1)
    image = tiles.repeat(2, axis=0).repeat(2, axis=1)
    joint = draw.uniform(0.55, 0.85)
    image[::4] *= joint
    image[:, ::4] *= joint
    return image


@style
def engraving(draw: Draw, at: Scene) -> Array:
    """Parallel dark lines, thicker on the darker parts; another direction on the ground."""
    x, y = grid()
    u, v = turned(x, y, 0, 0, draw.angle())
    pitch = draw.uniform(2.2, 3.0)
    shares = draw.order(3) * 0.22 + 0.25
    share = np.zeros(at.order.shape)
    for role in range(3):
        share = np.where(at.role(role), shares[role], share)
    ink = np.where(at.thing, u / pitch % 1.0 < share, v / (pitch * 1.3) % 1.0 < draw.uniform(0.0, 0.2)) | at.lines()
    paper, dark = 1 - draw.array(3, 0.0, 0.25), draw.array(3, 0.0, 0.3)
    return shrink(over(np.broadcast_to(paper, (*ink.shape, 3)), ink * 1.0, dark))


@style
def window(draw: Draw, at: Scene) -> Array:
    """Stained glass: the ground in panes of many colours, black leading between panes and parts."""
    x, y = grid()
    count = draw.integer(7, 12)
    seeds = draw.array((count, 2), 0, SIZE)
    nearest = ((x[..., None] - seeds[:, 0]) ** 2 + (y[..., None] - seeds[:, 1]) ** 2).argmin(axis=-1)
    ground = colour(draw, 0.3, 0.8)
    panes = np.clip(ground + draw.array((count, 3), -0.22, 0.22), 0, 1)
    image = _filled(draw, at, panes[nearest], _paints(draw, [ground], 0.3))
    leads = Scene(np.where(at.thing, count + at.order, nearest), (), 0.0, 0.0).lines()
    return shrink(over(image, leads * 1.0, np.full(3, 0.05)))


@style
def dots(draw: Draw, at: Scene) -> Array:
    """Points of paint of two pixels on paper, a little off their grid."""
    ground, colours = background(draw, 0.2)
    image = _filled(draw, at, ground, _paints(draw, colours, 0.35))
    x, y = grid()
    pitch = draw.uniform(1.9, 2.4)
    angle = draw.angle()
    u, v = turned(x, y, 0, 0, angle)
    near = (u / pitch % 1.0 - 0.5) ** 2 + (v / pitch % 1.0 - 0.5) ** 2
    paper = np.full((*near.shape, 3), draw.uniform(0.85, 1.0))
    return shrink(over(paper, (near < 0.2) * 1.0, image))


@style
def relief(draw: Draw, at: Scene) -> Array:
    """Cut into one material: only light and shade at the edges of the parts tell them apart."""
    height = np.zeros(at.order.shape)
    for role, step in zip(range(3), (0.6, 1.0, 0.3), strict=True):
        height = np.where(at.role(role), step + draw.uniform(-0.1, 0.1), height)
    for _ in range(3):
        height = _blur(height[..., None])[..., 0]
    dx, dy = draw.pick(((2, 2), (2, -2), (-2, 2), (-2, -2)))
    slope = height - np.roll(height, (dy, dx), axis=(0, 1))
    stone = colour(draw, 0.35, 0.65)
    grain = 0.15 * (smooth_noise(draw, draw.uniform(8, 16)) - 0.5)
    return shrink(stone + (draw.uniform(0.35, 0.6) * slope + grain)[..., None])


@style
def neon(draw: Draw, at: Scene) -> Array:
    """Glowing tubes along the edges in the dark."""
    tube, glow = at.lines() * 1.0, at.lines()[..., None] * 1.0
    for _ in range(4):
        glow = _blur(glow)
    hue = 0.35 + 0.65 * draw.array(3)
    dark = draw.array(3, 0.0, 0.18) * np.ones((*tube.shape, 1))
    return shrink(over(dark + glow * hue * draw.uniform(0.5, 1.1), tube, 0.35 + 0.65 * hue))


@style
def silhouette(draw: Draw, at: Scene) -> Array:
    """One dark or light shape on a soft ground."""
    ground, colours = background(draw, 0.15)
    return shrink(over(ground, at.thing * 1.0, contrasting(draw, colours, 0.35)))
