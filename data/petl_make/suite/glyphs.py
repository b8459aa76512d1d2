"""Natural: capital letters of 21 type faces on pieces of photographs; outlines from the font files are filled here."""

from functools import lru_cache
from typing import Any

import numpy as np

from petl_make.suite import embedded_task
from petl_make.suite.draw import SIZE, Array, Draw, outline_mask, shrink
from petl_make.suite.photos import clutter, package_file

FACES = (
    *tuple(
        f"DejaVu{family}{style}"
        for family, styles in {
            "Sans": ("", "-Bold", "-Oblique", "-BoldOblique"),
            "SansMono": ("", "-Bold", "-Oblique", "-BoldOblique"),
            "Serif": ("", "-Bold", "-Italic", "-BoldItalic"),
        }.items()
        for style in styles
    ),
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmti10",
    "cmtt10",
)
LETTERS = "ABDEFGHKLMNPRSTVWXYZ"
STEPS = 4  # straight pieces to a curve
FINE = 3  # thin strokes want more samples to a pixel than other shapes


@lru_cache(maxsize=64)
def _glyphs(face: str) -> tuple[Any, Any]:
    from fontTools.ttLib import TTFont

    font = TTFont(package_file("matplotlib", f"mpl-data/fonts/ttf/{face}.ttf"))
    return font.getGlyphSet(), font.getBestCmap()


@lru_cache(maxsize=1024)
def outline(face: str, letter: str) -> list[Array]:
    """The letter's closed contours, each (V, 2), centred on its box, its height 1, y downwards."""
    from fontTools.pens.recordingPen import DecomposingRecordingPen

    glyphs, names = _glyphs(face)
    pen = DecomposingRecordingPen(glyphs)
    glyphs[names[ord(letter)]].draw(pen)
    contours: list[list[tuple[float, float]]] = []
    t = np.arange(1, STEPS + 1) / STEPS
    for command, points in pen.value:
        if command == "moveTo":
            contours.append([points[0]])
        elif command == "lineTo":
            contours[-1].append(points[0])
        elif command == "qCurveTo":  # TrueType: between two control points lies an implied point on the curve
            start, controls = contours[-1][-1], list(points[:-1])
            for i, (cx, cy) in enumerate(controls):
                nx, ny = controls[i + 1] if i + 1 < len(controls) else points[-1]
                end = ((cx + nx) / 2, (cy + ny) / 2) if i + 1 < len(controls) else (nx, ny)
                for s in t:
                    a, b, c = (1 - s) ** 2, 2 * s * (1 - s), s * s
                    contours[-1].append((a * start[0] + b * cx + c * end[0], a * start[1] + b * cy + c * end[1]))
                start = end
    every = np.array([point for contour in contours for point in contour])
    low, high = every.min(axis=0), every.max(axis=0)
    return [(np.array(contour) - (low + high) / 2) / (high[1] - low[1]) * (1, -1) for contour in contours]


@embedded_task(
    name="glyphs",
    group="natural",
    classes=tuple(LETTERS),
    description="Which of twenty capital letters, in one of 21 faces; turned, scaled, sheared, shifted.",
    source="Fonts in Matplotlib's wheel (DejaVu, STIX, Computer Modern), photographs as backgrounds",
    licence="DejaVu, STIX and BaKoMa Computer Modern font licences, which leave pictures of letters free",
    colour="tinted",
)
def sample(draw: Draw, label: int) -> Array:
    contours = outline(draw.pick(FACES), LETTERS[label])
    height, angle = draw.uniform(18, 26), draw.uniform(-0.2, 0.2)
    c, s = np.cos(angle), np.sin(angle)
    frame = np.array([[c, s], [-s, c]]) * height
    frame = np.array([[draw.uniform(0.8, 1.15), 0], [draw.uniform(-0.15, 0.15), 1]]) @ frame
    centre = SIZE / 2 + draw.array(2, -2.5, 2.5)
    mask = shrink(outline_mask([contour @ frame + centre for contour in contours], fine=FINE), FINE)
    low = draw.uniform(0.0, 0.25)
    back, front = clutter(draw, low, low + draw.uniform(0.15, 0.35)), draw.uniform(0.75, 1.0)
    picture = back + (front - back) * mask
    return picture if draw.chance(0.5) else 1 - picture
