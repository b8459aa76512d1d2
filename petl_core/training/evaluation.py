"""What a model answers: its logits for many images, without gradients, and their accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from petl_core.training.augment import Normaliser
from petl_core.training.feeds import Feed
from petl_core.training.recipe import Recipe
from petl_core.training.steps import EVALUATION_BATCH, autocast, out_of_memory

if TYPE_CHECKING:
    from petl_core.vit import ViT


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy in percent of logits (n, C) against labels (n,); NaN if any logit is."""
    if np.isnan(logits).any():
        return math.nan
    return 100.0 * float(np.mean(logits.argmax(axis=1) == labels))


def predict(model: ViT, images: Tensor, recipe: Recipe = Recipe()) -> Tensor:
    """Logits (n, C), float32 on the CPU, of uint8 images (n, 3, S, S), in evaluation mode (put back afterwards)."""
    mode = model.training
    model.eval()
    logits = forward(model, model, images, recipe).cpu()
    model.train(mode)
    return logits


def forward(model: ViT, function: Callable[[Tensor], Tensor], images: Tensor, recipe: Recipe) -> Tensor:
    """``function`` (the model or a part of it) of uint8 images (n, 3, S, S), normalised as ``recipe`` says."""
    device = next(model.parameters()).device
    return evaluate(function, Feed(images.to(device), device), Normaliser(model, recipe), recipe)


@torch.no_grad()
def evaluate(
    function: Callable[[Tensor], Tensor], images: Feed, prepare: Callable[[Tensor], Tensor], recipe: Recipe
) -> Tensor:
    """``function`` of all prepared images without gradients: float32 on the images' device.

    A batch that is too large for the device's memory is halved. ``UserError`` if one image is too much.
    """
    size = min(EVALUATION_BATCH, len(images))
    while True:
        try:
            outputs = []
            for part in images.batches(torch.arange(len(images)).split(size)):
                with autocast(images.device, recipe):
                    outputs.append(function(prepare(part)).float())
            return torch.cat(outputs)
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise out_of_memory(images.device, error) from None
        size = (size + 1) // 2
