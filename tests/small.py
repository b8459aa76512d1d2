"""A small task and a small model for the tests of the trainer."""

from __future__ import annotations

import numpy as np
import torch

from petl_core import methods
from petl_core.data.task import Task, make_task
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
