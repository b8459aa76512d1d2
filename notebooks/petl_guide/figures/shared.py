"""What several figures draw in the same way: marks and the axis of methods, legends, grids of panels, shaded tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petl_guide.figures.style import FAMILIES, INK, WIDTH, look

LINES = "#e3e6e8"


def by_family(methods: Iterable[str]) -> list[str]:
    """The methods, family by family, by title within a family."""
    return sorted(methods, key=lambda method: (list(FAMILIES).index(look(method).family), look(method).title))


def mark(ax: Axes, x: Any, y: Any, method: str, size: float, edge: float = 0.5, **how: Any) -> None:
    """A method's mark at (x, y), with a white edge of that width."""
    shown = look(method)
    ax.plot(x, y, shown.marker, color=shown.colour, ms=size, mec="white", mew=edge, **how)


def lines(ax: Axes, axis: str = "both") -> None:
    """Pale lines across the panel, behind all else, at the ticks of ``axis``: "x", "y" or "both"."""
    ax.grid(axis=axis, color=LINES, lw=0.7)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def rows(ax: Axes, labels: Sequence[str]) -> None:
    """A row for each label, from the bottom, without ticks."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(labels) - 0.4)


def method_ticks(ax: Axes, methods: Sequence[str]) -> None:
    """The titles of the methods, from the bottom, in their colours."""
    ax.set_yticks(range(len(methods)), [look(method).title for method in methods])
    colour_labels(ax.get_yticklabels(), methods)


def method_rows(ax: Axes, methods: Sequence[str]) -> None:
    """A row for each method, from the bottom, with its title in its colour."""
    rows(ax, [look(method).title for method in methods])
    colour_labels(ax.get_yticklabels(), methods)


def colour_labels(labels: Iterable[Any], methods: Iterable[str]) -> None:
    """Give the labels of an axis the colours of their methods."""
    for label, method in zip(labels, methods, strict=True):
        label.set_color(look(method).colour)


def handle(label: str, marker: str, colour: str, *, filled: bool = True, **how: Any) -> Line2D:
    """A mark for a legend; one that is not filled is white with an edge of the colour."""
    edge = how.pop("mec", colour)
    return Line2D([], [], ls="", marker=marker, color=colour if filled else "white", mec=edge, label=label, **how)


def method_handles(methods: Iterable[str]) -> list[Line2D]:
    """The marks of methods for a legend."""
    return [handle(look(method).title, look(method).marker, look(method).colour) for method in methods]


def legend(figure: Figure, handles: Sequence[Any], columns: int, **how: Any) -> None:
    """The legend, below all panels."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, **how)


def method_legend(figure: Figure, methods: Iterable[str]) -> None:
    """The legend of many methods, in six columns."""
    legend(figure, method_handles(methods), 6, handletextpad=0.1, columnspacing=1.0)


def panel_grid(count: int, top: float, height: float, **how: Any) -> tuple[Figure, np.ndarray, list[Axes]]:
    """Panels in two columns: the figure, ``top + height`` inches high for one row, all axes and those of the panels."""
    columns = min(2, count)
    lines_of_panels = -(-count // columns)
    size = (WIDTH, top + height * lines_of_panels)
    figure, axes = plt.subplots(lines_of_panels, columns, figsize=size, squeeze=False, **how)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return figure, axes, list(axes.flat[:count])


def shaded(
    ax: Axes,
    shades: np.ndarray,
    text: Callable[[int, int], str],
    top: float,
    label: str,
    *,
    bold: np.ndarray,
    **bar: Any,
) -> None:
    """A table of numbers shaded from white (0) to dark (``top``), with a colour bar. ``text`` gives what stands in row
    i and column j ("" for nothing), ``bold`` what is emphasised."""
    image = ax.imshow(shades, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (i, j), shade in np.ndenumerate(shades):
        colour, weight = "white" if shade > 0.6 * top else INK, "bold" if bold[i, j] else "normal"
        ax.text(j, i, text(i, j), ha="center", va="center", fontsize=8, color=colour, weight=weight)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    colours = ax.figure.colorbar(image, ax=ax, shrink=0.7, pad=0.01, aspect=30, **bar)
    colours.set_label(label, fontsize=8)
    colours.outline.set_visible(False)
