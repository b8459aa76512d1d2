"""One picture that says what parameter-efficient fine-tuning is: which parts of the model move, for three choices."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

FROZEN, EDGE, MOVING = "#e8eaed", "#9aa0a6", "#d55e00"


def _box(ax: Axes, x: float, y: float, width: float, text: str, *, moves: bool) -> None:
    face, edge, ink = (MOVING, MOVING, "white") if moves else (FROZEN, EDGE, "#5f6368")
    style = "round,pad=0.02,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch((x, y), width, 0.5, boxstyle=style, fc=face, ec=edge, lw=1))
    ax.text(x + width / 2, y + 0.25, text, ha="center", va="center", fontsize=9, color=ink)


def idea_figure(counts: dict[str, int], blocks: int = 4) -> Figure:
    """Three columns: linear probing, PEFT, full fine-tuning; ``counts`` gives their trained numbers, in this order.

    Grey is frozen, orange is trained. ``blocks`` is how many blocks to draw.
    """
    if len(counts) != 3:
        raise ValueError(f"the picture has three columns, got {len(counts)} counts: {', '.join(counts)}")
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 3.6), layout="constrained")
    for column, (ax, (title, count)) in enumerate(zip(axes, counts.items(), strict=True)):
        everything, added = column == 2, column == 1
        _box(ax, 0.6, 0.0, 2.4, "patches + position", moves=everything)
        for i in range(blocks):
            _box(ax, 0.6, 0.75 + 0.75 * i, 2.4, f"block {i}", moves=everything)
            if added:
                _box(ax, 3.25, 0.75 + 0.75 * i, 0.42, "+Δ", moves=True)
                ax.plot([3.03, 3.24], [1.0 + 0.75 * i] * 2, color=MOVING, lw=1)
        _box(ax, 0.6, 0.75 + 0.75 * blocks, 2.4, "head", moves=True)
        for i in range(blocks + 1):
            ends = (1.8, 0.74 + 0.75 * i), (1.8, 0.52 + 0.75 * i)
            ax.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": EDGE})
        ax.set_title(f"{title}\n{count:,} trained + head", fontsize=10)
        ax.set_xlim(0, 4)
        ax.set_ylim(-0.2, 1.5 + 0.75 * blocks)
        ax.axis("off")
    figure.suptitle("Grey is frozen, orange is trained: PEFT adds a little beside everything", fontsize=11)
    return figure
