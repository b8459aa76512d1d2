"""Figures of the chapter on tasks and protocol: the suite, the backbone's training, the schedule, choosing on noise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from petl_core.data import Task
from petl_core.training.train import Recipe, learning_rate
from petl_core.utils import UserError
from petl_guide.figures import shared
from petl_guide.figures.style import GREY, GROUPS, INK, WIDTH, applied, headline
from petl_guide.low_shot.tuning import noise_maximum, select_on_noise
from petl_guide.runs import group_order


@applied()
def suite(tasks: Sequence[Task], title: str, per_task: int = 10) -> Figure:
    """One row of training images for each task, one of each class as far as they go, with its chance level."""
    fig, axes = plt.subplots(len(tasks), 1, figsize=(WIDTH, 0.6 + 0.53 * len(tasks)), squeeze=False)
    for ax, task in zip(axes[:, 0], tasks, strict=True):
        images, labels, _ = task.split("train800")
        first = [int((labels == c).nonzero()[0]) for c in range(task.num_classes)]
        extra = [i for i in range(len(labels)) if i not in first][: max(0, per_task - len(first))]
        picked = images[[*first, *extra][:per_task]].permute(0, 2, 3, 1).numpy()  # (n, S, S, 3)
        gap = np.full((picked.shape[1], 3, 3), 255, np.uint8)
        strip = np.concatenate([part for image in picked for part in (image, gap)][:-1], axis=1)
        ax.imshow(strip, interpolation="nearest")
        ax.set_anchor("W")
        ax.axis("off")
        chance = f"{task.num_classes} classes, chance {100 / task.num_classes:.1f} %"
        box: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "center"}
        ax.text(-0.02, 0.62, task.name.replace("_", " "), color=INK, weight="bold", fontsize=8.5, **box)
        ax.text(-0.02, 0.25, chance, color="#5f6368", fontsize=7.5, **box)
        colour = GROUPS[task.group]
        ax.add_patch(Rectangle((-0.012, 0), 0.006, 1, color=colour, transform=ax.transAxes, clip_on=False))
    handles = [Patch(color=GROUPS[group], label=group) for group in group_order(task.group for task in tasks)]
    shared.legend(fig, handles, len(handles), handlelength=0.8)
    headline(fig, title)
    return fig


def read_log(path: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """The recipe and the epochs of a pre-training log (``mini_log.jsonl``); repeated epochs of a resumed run once."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        recipe = next(line["recipe"] for line in lines if "recipe" in line)
    except (OSError, ValueError, StopIteration) as error:
        raise UserError(f"cannot read the log of pre-training {path} ({error}); get a fresh copy of it") from error
    for line in lines:
        if "resumed_after_epoch" in line:
            recipe = {**recipe, "epochs": line["epochs"]}  # a resumed run may have been given another length
    epochs = {int(line["epoch"]): line for line in lines if "epoch" in line}
    return recipe, [epochs[number] for number in sorted(epochs)]


@applied()
def pretraining(epochs: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Training loss and validation accuracy by epoch, side by side."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.6))
    x = [row["epoch"] for row in epochs]
    panels = (("train_loss", "training loss (nats)"), ("val_accuracy", "validation accuracy (%)"))
    for ax, (key, name) in zip(axes, panels, strict=True):
        ax.plot(x, [row[key] for row in epochs], marker="o", ms=3.5, color="#0072b2")
        ax.set(xlabel="epoch", ylabel=name)
        ax.grid(axis="y", color=shared.LINES, lw=0.7)
    axes[1].set_ylim(bottom=0)
    headline(fig, title)
    return fig


@applied()
def schedule(recipes: Mapping[str, tuple[Recipe, int]], title: str) -> Figure:
    """The rate of every step as a fraction of the base rate; ``recipes`` gives recipe and number of training images."""
    fig, ax = plt.subplots(figsize=(WIDTH, 2.5))
    for (name, (recipe, images)), line in zip(recipes.items(), ("-", "--", ":"), strict=False):
        total = recipe.epochs * -(-images // recipe.batch_size)
        rates = [learning_rate(step, total, recipe) / recipe.lr for step in range(total)]
        ax.plot(rates, line, color="#0072b2" if line == "-" else "#d55e00", label=f"{name}, {total} steps")
        top = int(np.argmax(rates))
        ax.plot(top, rates[top], "o", color=INK, ms=4)
    ax.set(xlabel="step", ylabel="rate / base rate", ylim=(0, 1.08))
    ax.legend()
    ax.set_title(title)
    return fig


@applied()
def selection_on_noise(accuracy: float, title: str, most: int = 100, repeats: int = 400) -> Figure:
    """Points gained by taking the best of k equal models, on 200 and on 1,000 images: exact lines, simulated dots."""
    fig, ax = plt.subplots(figsize=(WIDTH, 2.9))
    choices = np.unique(np.geomspace(1, most, 16).round().astype(int))
    for images, colour, marker in ((200, "#d55e00", "s"), (1000, "#0072b2", "o")):
        exact = [noise_maximum(accuracy, images, int(k)) - accuracy for k in choices]
        drawn = [select_on_noise(accuracy, images, int(k), repeats, seed=int(k)).mean() - accuracy for k in choices]
        ax.plot(choices, exact, color=colour, label=f"exact, {images:,} images")
        ax.plot(choices, drawn, marker, color=colour, ms=5, mec="white", label=f"simulated, {images:,} images")
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set_xscale("log")
    ticks = [k for k in (1, 2, 4, 10, 20, 50, 100, 200) if k <= most]
    ax.set_xticks(ticks, [str(k) for k in ticks])
    ax.minorticks_off()
    ax.set(xlabel="equal models to choose from", ylabel="best minus truth (points)")
    ax.legend(ncols=2)
    ax.set_title(title)
    return fig
