"""How the two embedded backbones are pre-trained: optimisers, schedule, log, and going on after an interruption.

Matrices inside the blocks are trained with Muon (Jordan et al., 2024: momentum, then the nearest orthogonal matrix by
a Newton-Schulz iteration), all else with AdamW. In a trial of 1.5 epochs, with a network 96 wide and 6 blocks deep,
this reached 13.8 % where AdamW alone reached 8.4 %. torch ships Muon too (``torch.optim.Muon``), but iterates in
bfloat16, one matrix at a time: on a CPU that took a quarter of every step. The version here runs in float32 over all
matrices of one shape together.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from petl_core.models.weights import save_backbone
from petl_core.utils import write_atomic
from petl_core.vit import ViT, ViTConfig

MEAN, STD = (0.480, 0.448, 0.398), (0.277, 0.269, 0.282)  # of Tiny-ImageNet's training images, in [0, 1]


@dataclass(frozen=True)
class Shape:
    """What the two embedded backbones have in common: the network's shape, and the optimiser's settings."""

    width: int = 128
    depth: int = 4
    heads: int = 4
    patch_size: int = 8
    epochs: int = 20
    batch_size: int = 256
    lr: float = 6e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # fraction of the steps
    shift: int = 4  # pixels, in each direction, by reflection
    seed: int = 0

    def config(self) -> ViTConfig:
        return ViTConfig(32, self.patch_size, self.width, self.depth, self.heads, mean=MEAN, std=STD)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: (K, m, n) to (K, m, n), by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)  # (K, m, m), m the shorter side
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; step size scaled by 0.2 sqrt(longer side), so that AdamW's learning rates fit."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():
                updates = []
                for p in params:
                    average = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    gradient = p.grad if p.grad is not None else torch.zeros_like(p)
                    average.lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(average, group["momentum"]))  # Nesterov
                for p, update in zip(params, orthogonalise(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)


def augment(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Flip half of the images left to right and move each by up to ``shift`` pixels: uint8 (B, 3, h, w) to float."""
    B, _, _, size = images.shape
    padded = F.pad(images.float(), (shift,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * shift + 1, (2, B), generator=generator)
    flip = torch.rand(B, generator=generator) < 0.5
    line = torch.arange(size)
    rows = top[:, None] + line  # (B, h)
    columns = left[:, None] + torch.where(flip[:, None], line.flip(0), line)  # (B, w)
    index = torch.arange(B)[:, None, None, None]
    return padded[index, torch.arange(3)[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def normalise(images: Tensor) -> Tensor:
    """Pixels 0 to 255 to zero mean and unit deviation per colour."""
    mean, std = (255 * torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() - mean) / std


def log_of(out: Path) -> Path:
    """Where the log of a weights file lies."""
    return out.with_name(out.stem + "_log.jsonl")


class Pretraining:
    """A run: a model, its optimisers, the log beside ``out``, and what is needed to go on after the last epoch.

    Muon trains the matrices of ``blocks``, AdamW the rest of what trains, without decay on vectors. A run that was
    stopped goes on when one with the same ``out`` is made.
    """

    def __init__(self, model: nn.Module, blocks: Iterable[nn.Module], recipe: Shape, out: Path) -> None:
        self.model, self.recipe, self.out = model, recipe, out
        self.state_file = out.with_name(out.stem + ".resume")
        matrices = [p for block in blocks for p in block.parameters() if p.ndim == 2]
        taken = {id(p) for p in matrices}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
        self.optimisers = [Muon(matrices, recipe.lr, recipe.weight_decay), adamw]

    def run(
        self,
        count: int,
        loss_of: Callable[[Tensor, torch.Generator], Tensor],
        score: Callable[[], dict[str, float]],
    ) -> None:
        """Train on ``count`` samples. ``loss_of(batch, generator)`` is the loss of the samples with these indices;
        ``score`` measures, after an epoch."""
        for epoch in range(self._start(), self.recipe.epochs):
            start = time.perf_counter()
            row = {"epoch": epoch + 1, "train_loss": round(self._epoch(epoch, count, loss_of), 4)}
            row |= {name: round(value, 2) for name, value in score().items()}
            row["seconds"] = round(time.perf_counter() - start, 1)
            self._log(row)
            print(row, flush=True)
            self.save(epoch + 1)

    def _epoch(self, epoch: int, count: int, loss_of: Callable[[Tensor, torch.Generator], Tensor]) -> float:
        """One epoch; its mean loss. Linear warm-up, then a cosine to zero; the last incomplete batch is left out."""
        recipe, losses = self.recipe, []
        per_epoch = count // recipe.batch_size
        total, warm = recipe.epochs * per_epoch, max(1, int(recipe.warmup * recipe.epochs * per_epoch))
        generator = torch.Generator().manual_seed(1000 * recipe.seed + epoch)
        order = torch.randperm(count, generator=generator)
        for i in range(per_epoch):
            step = epoch * per_epoch + i
            rise, fall = (step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / (total - warm)))
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = recipe.lr * min(rise, fall)
            loss = loss_of(order[i * recipe.batch_size : (i + 1) * recipe.batch_size], generator)
            self.model.zero_grad()
            loss.backward()
            for optimiser in self.optimisers:
                optimiser.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def save(self, epoch: int) -> None:
        """Write down everything that is needed to go on after ``epoch`` finished epochs."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for i, optimiser in enumerate(self.optimisers):
            for j, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{i}.{j}.{key}": value for key, value in state.items()}
        write_atomic(self.state_file, safetensors.torch.save(tensors, {"epoch": str(epoch)}))

    def _start(self) -> int:
        """The number of finished epochs: those of a run that was stopped, else none and a new log."""
        if not self.state_file.exists():
            log_of(self.out).unlink(missing_ok=True)
            about = {"recipe": asdict(self.recipe), "threads": torch.get_num_threads(), "torch": torch.__version__}
            self._log(about)
            return 0
        with safe_open(self.state_file, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            epoch = int(file.metadata()["epoch"])
        starts = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self.model.load_state_dict(starts)
        for i, optimiser in enumerate(self.optimisers):
            whole = optimiser.state_dict()
            for name in tensors:
                if name.startswith(f"optimiser.{i}."):
                    _, _, j, key = name.split(".")
                    whole["state"].setdefault(int(j), {})[key] = tensors[name]
            optimiser.load_state_dict(whole)
        self._log({"resumed_after_epoch": epoch, "epochs": self.recipe.epochs})
        return epoch

    def _log(self, row: dict[str, Any]) -> None:
        with log_of(self.out).open("a") as log:
            log.write(json.dumps(row) + "\n")

    def finish(self, vit: ViT, accuracy: float) -> None:
        """Write the weights of ``vit`` as float16, with the recipe and the accuracy in percent that they have so."""
        about = {"pretraining": json.dumps(asdict(self.recipe)), "val_accuracy": f"{accuracy:.2f}"}
        save_backbone(vit, self.out, about, half=True)
        self.state_file.unlink()


def add_options(parser: argparse.ArgumentParser, out: str, recipe: Shape, threads: int) -> None:
    """The options that both commands have."""
    parser.add_argument("--out", type=Path, default=Path(out), help="file to write (%(default)s)")
    parser.add_argument("--epochs", type=int, default=recipe.epochs, help="epochs (%(default)s)")
    parser.add_argument("--threads", type=int, default=threads, help="CPU threads (%(default)s)")
