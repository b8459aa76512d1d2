"""Pictures of the rendered world: the target style and the shifted test sets, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from petl_core.data.embedded import SHIFTS
from petl_guide.figures.style import INK, WIDTH, applied

if TYPE_CHECKING:
    from petl_core.data.task import Task

ROWS = {"test": "target", "v2": "v2", "renditions": "renditions", "sketch": "sketch", "hard": "hard"}


@applied()
def examples(task: Task, columns: int = 10) -> Figure:
    """One row for each test set with a picture of each of the first ``columns`` classes, named above."""
    names = ("test", *SHIFTS)
    fig, axes = plt.subplots(len(names), columns, figsize=(WIDTH, 0.35 + 0.72 * len(names)), squeeze=False)
    for line, split in zip(axes, names, strict=True):
        images, labels, _ = task.split(split)
        for c, ax in enumerate(line):
            ax.imshow(images[int((labels == c).nonzero()[0])].permute(1, 2, 0).numpy())
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if split == "test":
                ax.set_title(task.classes[c], fontsize=8, loc="center", color=INK)
        line[0].set_ylabel(ROWS[split], fontsize=8.5, rotation=0, ha="right", va="center")
    return fig
