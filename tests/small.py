"""A small task, a small model and a small backbone for the tests of models and of the trainer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from petl_core import methods
from petl_core.data.task import Task, make_task
from petl_core.models.build import Model
from petl_core.models.weights import save_backbone
from petl_core.vit import ViT, ViTConfig


def easy_task(classes: int = 3, size: int = 16) -> Task:
    """Classes differ in brightness, under noise: 60 + 20 training images, 40 test images."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % classes
    images = random.integers(0, 90, (120, 3, size, size)) + labels[:, None, None, None] * 60
    names = tuple(f"image {i}" for i in range(120))
    index = np.arange(120)
    classes_ = tuple("abcdef"[:classes])
    splits = {"train800": index[:60], "val200": index[60:80], "test": index[80:]}
    return make_task("easy", "other", classes_, images=images.astype(np.uint8), labels=labels, ids=names, splits=splits)


def tiny_model(method: str = "lora", classes: int = 3, depth: int = 2, **hyper) -> ViT:
    """Two blocks of width 16, random but always the same, with one method attached."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = ViT(ViTConfig(16, 8, 16, depth, 2, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)), classes)
        chosen = methods.get(method, **hyper)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("head.") or chosen.unfreezes(name, model.config))
        module = chosen.attach(model)
        if module is not None:
            model.methods[method] = module
    return model


def small_backbone(path: Path, seed: int = 0) -> Path:
    """Two blocks of width 32 for 16 pixels, five classes, no weight zero or one, as a backbone's file."""
    torch.manual_seed(seed)
    vit = ViT(ViTConfig(16, 8, 32, 2, 4), 5)
    for name, parameter in vit.named_parameters():
        nn.init.normal_(parameter, float("norm" in name and "weight" in name), 0.1)
    return save_backbone(vit, path)


def disturbed(model: Model) -> Model:
    """As after training: everything trainable has moved."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
def gap(one: nn.Module, other: nn.Module) -> float:
    """The largest difference of two models' logits for images of 16 pixels."""
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return float((one(images) - other(images)).abs().max())
