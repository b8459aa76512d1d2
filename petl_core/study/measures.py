"""What a study measures of a trained model besides its accuracy: one function a measurement, kept in the run's record.

A function takes the model, in evaluation mode, its task, the recipe (for the normalisation) and how many test images to
use at most; it leaves the model as it is and returns plain JSON values. ``RunSpec.measure`` names those of a run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from petl_core.models.build import Model, interpolate, merge
from petl_core.training.feeds import rows_of
from petl_core.training.train import Recipe, forward, predict, take
from petl_core.utils import UserError

if TYPE_CHECKING:
    from petl_core.data.task import Task

Measure = Callable[[Model, "Task", Recipe, int | None], dict[str, Any]]
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
CHUNK = 5000  # images that are held at a time: a task may be larger than memory
HALFWAY = 0.5  # the alpha that a check uses which may not choose one on the test images
FEATURE_IMAGES = 500  # of the test split, for the displacement of features


def displacement(model: Model, task: Task, recipe: Recipe, most: int | None = None) -> dict[str, Any]:
    """How far tuning has moved the backbone, head excluded.

    ``features``: for the class token after each block and after the last norm, the mean over test images of
    |f1 - f0| / |f0|, f0 the pre-trained model's. ``weights``: for each block |W1 - W0| / |W0| over all its parameters,
    with what the method added folded in, or None for a method that cannot be folded.
    """
    start = interpolate(model, 0.0)
    images = take(task, "test", min(FEATURE_IMAGES, most or FEATURE_IMAGES))[0]
    tuned, initial = (_class_tokens(m, images, recipe) for m in (model, start))
    moved = [float(((t - i).norm(dim=1) / i.norm(dim=1)).mean()) for t, i in zip(tuned, initial, strict=True)]
    return {"features": [round(x, 5) for x in moved], "weights": _weights_moved(model, start)}


def _class_tokens(model: Model, images: Tensor, recipe: Recipe) -> list[Tensor]:
    """The class token (n, D) after each block, and what the head reads."""
    kept: list[list[Tensor]] = [[] for _ in model.blocks]
    hooks = [
        block.register_forward_hook(lambda _, __, output, into=into: into.append(output[:, 0].detach().cpu()))
        for block, into in zip(model.blocks, kept, strict=True)
    ]
    try:
        last = forward(model, model.forward_features, images, recipe)
    finally:
        for hook in hooks:
            hook.remove()
    return [*(torch.cat(tokens) for tokens in kept), last.cpu()]


def _weights_moved(model: Model, start: Model) -> list[float] | None:
    try:
        tuned, initial = merge(model), merge(start)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        return None
    moved = []
    for block, before in zip(tuned.blocks, initial.blocks, strict=True):
        own, old = dict(block.named_parameters()), dict(before.named_parameters())
        squares = sum(float((own[n] - old.get(n, torch.zeros_like(own[n]))).square().sum()) for n in own)
        size = sum(float(p.square().sum()) for p in old.values())
        moved.append(round((squares / size) ** 0.5, 6))
    return moved


def interpolation(model: Model, task: Task, recipe: Recipe, most: int | None = None) -> dict[str, Any]:
    """Accuracy of weight-space ensembles of the tuned and the pre-trained model, on every split not trained on.

    ``alphas``; ``both``: for each split the accuracies (percent) at those alphas, backbone and head interpolated;
    ``head``: the same of ensembles of the heads alone, on the tuned backbone, at ``HALFWAY``.
    """
    rows = {name: rows_of(task, name, most) for name in task.splits if name not in ("train800", "val200", "train1000")}

    def scores(network: Model) -> dict[str, float]:
        found = {}
        for name, index in rows.items():
            right = 0
            for part in index.split(CHUNK):
                logits = task.restrict(name, predict(network, task.images[part], recipe))
                right += int(logits.argmax(1).eq(task.labels[part]).sum())
            found[name] = round(100.0 * (right / len(index)), 4)
        return found

    curve = [scores(interpolate(model, alpha)) for alpha in ALPHAS]
    head_only = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in head_only.head.named_parameters():
            parameter.lerp_(model.initial[f"head.{name}"].to(parameter), 1.0 - HALFWAY)
    both = {name: [point[name] for point in curve] for name in rows}
    return {"alphas": list(ALPHAS), "both": both, "head": scores(head_only)}


MEASURES: dict[str, Measure] = {"displacement": displacement, "interpolation": interpolation}


def get(name: str) -> Measure:
    """The measurement called ``name``. ``UserError`` listing the names if there is none."""
    if name not in MEASURES:
        raise UserError(f"unknown measurement {name!r}; there are: {', '.join(MEASURES)}")
    return MEASURES[name]
