"""A head to start from where no text tower writes one: a linear probe of the frozen features, as in LP-FT.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022, arXiv
2202.10054) train the head first and then everything. Every method then starts from the same function, and
``interpolate(model, 0)`` is the probe, as it is the zero-shot model for CLIP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from petl_core.models.build import Model
from petl_core.training.train import Recipe, forward, take
from petl_core.utils import UserError

if TYPE_CHECKING:
    from petl_core.data.task import Task

STRENGTH = 0.1  # C of scikit-learn's LogisticRegression, on features of unit variance
ITERATIONS = 1000


def set_probe_head(model: Model, task: Task, recipe: Recipe, train_on: str, most: int | None = None) -> None:
    """Give ``model`` the head of a multinomial logistic regression on its untrained features of ``train_on``.

    The features (n, D) are standardised and the regression's weight and bias rewritten for those as they are.
    ``model.initial`` is changed with the head. ``UserError`` if a class has no image in the split.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    images, labels, _ = take(task, train_on, most)
    absent = sorted(set(range(task.num_classes)) - set(labels.tolist()))
    if absent:
        raise UserError(
            f"task '{task.name}': class {task.classes[absent[0]]!r} has no image in {train_on}, so no linear probe can "
            "be trained on it; use head='new'"
        )
    model.eval()
    features = forward(model, model.forward_features, images, recipe).cpu().double().numpy()
    scale = StandardScaler().fit(features)
    probe = LogisticRegression(C=STRENGTH, max_iter=ITERATIONS).fit(scale.transform(features), labels.numpy())
    weight, bias = np.asarray(probe.coef_), np.asarray(probe.intercept_)
    if len(weight) == 1:  # of two classes scikit-learn keeps the difference
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale.scale_
    bias = bias - weight @ scale.mean_
    with torch.no_grad():
        for name, values in (("weight", weight), ("bias", bias)):
            parameter = model.head.get_parameter(name)
            parameter.copy_(torch.from_numpy(values))
            model.initial[f"head.{name}"] = parameter.detach().cpu().clone()
