"""One look for all figures: a colour for each family of methods, a marker and a shade for each method, plain axes.

The colours are those of Okabe and Ito, which people with any common colour vision tell apart; no figure relies on
colour alone. A method's look follows from its family and its place in it, so one that a reader registers gets its own.
"""

from __future__ import annotations

import base64
import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from petl_core import methods as registry

FAMILIES = {
    "baseline": "#4d4d4d",
    "selective": "#0072b2",
    "low-rank": "#d55e00",
    "adapter": "#009e73",
    "prompt": "#cc79a7",
    "other": "#111111",
}
GROUPS = {"natural": "#e69f00", "specialised": "#56b4e9", "structured": "#8c510a", "other": "#999999"}
GROUP_MARKERS = {"natural": "o", "specialised": "s", "structured": "^", "other": "D"}
MARKERS = "osD^vPXph<>*8d"
GREY, INK = "#8a8f94", "#202124"
WIDTH = 7.2  # inches: 720 px at 100 dots per inch, the width of the book's column
LETTERS = 13.4  # of a title that fit in an inch
DPI = 100
LOOK: dict[Any, Any] = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "petl_core",
}


@dataclass(frozen=True)
class Look:
    """How one method appears everywhere."""

    title: str
    family: str
    colour: str
    marker: str


def look(method: str) -> Look:
    """The look of a method by name; unregistered names are shown as they are, in the colour of "other"."""
    cls = registry.registry.get(method)
    family = cls.family if cls is not None and cls.family in FAMILIES else "other"
    of_family = [name for name in registry.names() if registry.registry[name].family == (cls.family if cls else None)]
    place = of_family.index(method) if method in of_family else 0
    shade = place / max(1, len(of_family) - 1)  # from darker to lighter within a family
    rgb = to_rgb(FAMILIES[family])
    r, g, b = (c * (0.65 + 0.35 * min(1, 2 * shade)) + (1 - c) * 0.12 * max(0, 2 * shade - 1) for c in rgb)
    return Look(cls.title if cls else method, family, to_hex((r, g, b)), MARKERS[place % len(MARKERS)])


def title(method: str) -> str:
    """The method's name as in tables and figures."""
    return look(method).title


def apply() -> None:
    """Set the look for all figures of a notebook."""
    plt.rcParams.update(LOOK)


@contextmanager
def applied() -> Iterator[None]:
    """The look inside the ``with`` only; every function of ``figures`` draws in it."""
    with plt.rc_context(LOOK):
        yield


def wrapped(text: str, width: float = WIDTH) -> str:
    """A title in as many lines as a figure of that width (inches) needs."""
    return textwrap.fill(text, round(LETTERS * width))


def headline(figure: Figure, text: str) -> None:
    """The title of a figure of several panels, which says what it shows."""
    figure.suptitle(wrapped(text, figure.get_figwidth()), fontsize=10, ha="left", x=0.01)


class Shown:
    """A figure with a description for those who cannot see it, ``alt``, and with the words on it, for the tests."""

    def __init__(self, png: bytes, alt: str, text: dict[str, Any]) -> None:
        self.png, self.alt, self.text = png, alt, text

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        data = {"image/png": base64.b64encode(self.png).decode(), "text/plain": f"Figure: {self.alt}"}
        return data, {"image/png": {"alt": self.alt, **self.text}}


def words(figure: Figure) -> dict[str, Any]:
    """What a drawn figure says of itself: its title, the names of its axes, and which of x and y show numbers without
    a name. A name on one panel serves all panels."""
    titles = [figure.get_suptitle(), *(ax.get_title("left") or ax.get_title() for ax in figure.axes)]
    names: dict[str, list[str]] = {"x": [figure.get_supxlabel()], "y": [figure.get_supylabel()]}
    numbered = set()
    for ax in figure.axes:
        for side, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            names[side].append(axis.get_label().get_text())
            ticks = [tick.get_text().replace("mathdefault", "") for tick in axis.get_ticklabels() if tick.get_visible()]
            if ax.axison and any(re.search(r"\d", tick) and not re.search("[A-Za-z]", tick) for tick in ticks):
                numbered.add(side)
    found = {side: list(dict.fromkeys(filter(None, texts))) for side, texts in names.items()}
    title = " ".join(next(filter(None, titles), "").split())
    return {"title": title, **found, "unnamed": sorted(side for side in numbered if not found[side])}


def show(figure: Figure, alt: str) -> Shown:
    """Draw the figure, close it, and return what a notebook cell displays: the picture with its description."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # no version: equal figures give equal bytes
    plt.close(figure)
    return Shown(buffer.getvalue(), alt, words(figure))
