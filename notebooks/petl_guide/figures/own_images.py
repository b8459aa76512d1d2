"""A folder of PNG files as a user would have it, made from an embedded task; and pictures with a model's answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from petl_core.compare.report import Comparison
from petl_core.data import Task
from petl_guide.figures.style import INK, WIDTH, applied, headline
from petl_guide.figures.tables import Table, table


def write_folder(task: Task, folder: Path, each: int, classes: int | None = None, *, shuffle: bool = False) -> int:
    """Write ``each`` images of the first ``classes`` classes as ``folder/<class>/<number>.png``; return how many.

    ``shuffle`` puts each image into a class folder drawn by lot: the labels then mean nothing.
    """
    chosen = range(task.num_classes if classes is None else classes)
    index = [(i, c) for c in chosen for i in (task.labels == c).nonzero()[:each, 0].tolist()]
    labels = [c for _, c in index]
    if shuffle:
        labels = np.random.default_rng(0).permutation(labels).tolist()
    for (i, _), label in zip(index, labels, strict=True):
        place = folder / task.classes[label].replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(task.images[i].permute(1, 2, 0).numpy()).save(place / f"{i:04d}.png")
    return len(index)


def comparison_table(report: Comparison) -> Table:
    """The table of a comparison with the recommended method marked, without timings: equal runs give equal bytes."""
    frame = report.table.drop(columns=["seconds", "may_lose"])
    marked = [f"{v} ←" if m == report.recommended else v for m, v in frame[["method", "verdict"]].to_numpy()]
    forms = {"params": "{:,.0f}", **dict.fromkeys(("accuracy", "low", "high", "validation"), "{:.1f}")}
    forms |= dict.fromkeys(("difference", "from", "to"), "{:+.1f}")
    return table(frame.assign(verdict=marked), forms, f"{report.task.name}, backbone {report.backbone}; ← recommended")


@applied()
def answers(images: torch.Tensor, said: Sequence[str], truth: Sequence[str], title: str) -> Figure:
    """Pictures (n, 3, S, S) in a row with what a model says; a wrong answer shows the truth below it."""
    fig, axes = plt.subplots(1, len(images), figsize=(WIDTH, 1.75), squeeze=False)
    for ax, image, one, other in zip(axes[0], images, said, truth, strict=True):
        ax.imshow(image.permute(1, 2, 0).numpy())
        ax.axis("off")
        right = one == other
        text = one.replace("_", " ") if right else f"{one.replace('_', ' ')}\n(is {other.replace('_', ' ')})"
        ax.set_title(text, fontsize=7.5, loc="center", color=INK if right else "#b00020")
    headline(fig, title)
    return fig
