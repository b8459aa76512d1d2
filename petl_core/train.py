"""The trainer: one model, one task, one recipe, one seed -> one ``Run``. It chooses nothing and writes nothing.

AdamW with a linear warm-up and a cosine per step. The whole task lies on the model's device as bytes and is normalised
batch by batch, so there is no loader. The seed fixes the order of the images, flips, dropout and drop path: equal calls
on one CPU with one number of threads give equal bits, and the caller's random state is left as it was.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from petl_core.errors import UserError

if TYPE_CHECKING:
    from petl_core.data.task import Task
    from petl_core.vit import ViT

CHOICES = {
    "normalise": ("backbone", "imagenet", "none"),
    "precision": ("auto", "fp32", "bf16"),
    "decay": ("matrices", "all"),
}
STATISTICS = {  # mean and standard deviation of each channel; "backbone": the ones it was pre-trained with
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0,) * 3, (1.0,) * 3),
}
NOT_MATRICES = re.compile(r"token|pos_embed|prompt|quer|gamma|scale|shift|norm|bias")  # in a parameter's name
EVALUATION_BATCH = 250
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Recipe:
    """The optimiser's settings. ``warmup`` is a fraction of all steps; the last block has the rate ``drop_path``.

    ``decay="matrices"`` spares biases, norms, scales, shifts, prompts and tokens from weight decay; "all" spares
    nothing that trains, as the study's released code does. ``normalise``: with the mean and deviation that the backbone
    was pre-trained with, with ImageNet's, or with "none", images in [0, 1].

    Two ways to hold full fine-tuning near its start, both off by default. ``l2_sp`` = beta pulls each unfrozen backbone
    parameter w towards its pre-trained value w0, after each step of rate lr: w <- w + lr beta (w0 - w). This is L2-SP
    (Li, Grandvalet and Davoine, 2018, arXiv 1802.01483) decoupled from Adam's scaling, as AdamW's decay is.
    ``layer_decay`` = d gives block l of L the rate lr d^(L + 1 - l), the embeddings lr d^(L + 1), the head lr.
    """

    lr: float = 1e-3
    weight_decay: float = 1e-4
    epochs: int = 20
    warmup: float = 0.1
    final_lr: float = 0.0
    batch_size: int = 64
    drop_path: float = 0.0
    flip: bool = False
    normalise: str = "backbone"
    precision: str = "auto"
    decay: str = "matrices"
    l2_sp: float = 0.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UserError(f"Recipe.lr is {self.lr}; it must be greater than 0, for example 1e-3")
        for field in ("weight_decay", "final_lr", "l2_sp"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"Recipe.{field} is {value}; it must be 0 or greater")
        if self.final_lr > self.lr:
            raise UserError(f"Recipe.final_lr is {self.final_lr}, above the base rate {self.lr}; choose a smaller one")
        for field in ("epochs", "batch_size"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"Recipe.{field} is {value!r}; it must be a whole number, 1 or more")
        for field in ("warmup", "drop_path"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise UserError(f"Recipe.{field} is {getattr(self, field)}; it must lie in [0, 1)")
        if not 0.0 < self.layer_decay <= 1.0:
            raise UserError(
                f"Recipe.layer_decay is {self.layer_decay}; it must lie in (0, 1]: 1 is the same rate for all"
            )
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                raise UserError(f"Recipe.{field} is {getattr(self, field)!r}; allowed: {', '.join(allowed)}")


@dataclass
class Run:
    """What one training gave. Accuracies are percentages; a diverged run's are NaN, which wins no comparison."""

    accuracy: float  # on ``evaluated_on``, after the last epoch, from the rounded logits below
    evaluated_on: str
    logits: np.ndarray  # (n, C) float16
    labels: np.ndarray  # (n,) int64
    ids: tuple[str, ...]
    train_accuracy: float  # of the last epoch's batches as they were trained on (dropout and drop path at work)
    seconds: float
    diverged: bool
    history: list[dict[str, float]]  # one entry per epoch: epoch, loss, train_accuracy, lr of its last step
    steps: int
    params: int  # trainable, without the head
    group: str  # of the task
    peak_memory_mb: float  # of the GPU for this run; on CPU the largest so far of this whole process
    best_accuracy: float | None = None  # track=True: best epoch ON THE EVALUATION SPLIT, so too good; chooses nothing
    best_epoch: int | None = None
    measures: dict[str, Any] | None = None  # of the trained model, where the spec asks for some (petl_core.measures)

    @property
    def test_accuracy(self) -> float | None:
        """The accuracy where the test split was evaluated, otherwise None."""
        return self.accuracy if self.evaluated_on == "test" else None


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """The rate of step 0 <= step < total: linear warm-up over W = floor(warmup * total) steps, then half a cosine.

    Step s < W: lr (s + 1) / (W + 1). Step s >= W: final_lr + (lr - final_lr) (1 + cos(pi (s - W) / (total - W))) / 2.
    So step W has exactly the base rate, which is the largest, and no step has rate zero.
    """
    warm = int(recipe.warmup * total)
    if step < warm:
        return recipe.lr * (step + 1) / (warm + 1)
    if step == warm:
        return recipe.lr
    phase = (step - warm) / (total - warm)
    return recipe.final_lr + (recipe.lr - recipe.final_lr) * 0.5 * (1.0 + math.cos(math.pi * phase))


def train(
    model: ViT,
    task: Task,
    recipe: Recipe = Recipe(),
    *,
    seed: int = 0,
    train_on: str = "train1000",
    evaluate_on: str = "test",
    max_train: int | None = None,
    max_evaluate: int | None = None,
    track: bool = False,
    progress: bool = False,
) -> Run:
    """Train what ``model`` declares trainable on one split and evaluate once, at the end, on another.

    The model is changed in place, on the device where it is, and left in evaluation mode. ``max_train`` and
    ``max_evaluate`` keep that many evenly spaced images of a split. ``track`` also evaluates after every epoch and
    keeps the best apart. A loss that is not finite ends the run: ``diverged`` is true and the accuracy NaN.
    Raises ``UserError`` if the model does not fit the task, a split is unknown, or nothing is trainable.
    """
    _check(model, task, seed, train_on, evaluate_on, (max_train, max_evaluate))
    device = next(model.parameters()).device
    start = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    images, labels, _ = take(task, train_on, max_train)
    images, labels = images.to(device), labels.to(device)
    held_images, held_labels, held_ids = take(task, evaluate_on, max_evaluate)
    held_images = held_images.to(device)

    network: nn.Module = model
    prepare: Callable[[Tensor], Tensor] = _Normaliser(model, recipe)
    if _features_suffice(model, recipe):  # nothing before the head moves: pass each image through the backbone once
        model.eval()
        images = _forward(model.forward_features, images, prepare, recipe)
        held_images = _forward(model.forward_features, held_images, prepare, recipe)
        network, prepare = model.head, nn.Identity()

    def logits_now() -> np.ndarray:
        network.eval()
        logits = _forward(network, held_images, prepare, recipe).cpu()
        if not torch.isfinite(logits).all():
            return np.full(logits.shape, np.nan, dtype=np.float16)
        return task.restrict(evaluate_on, logits).clamp(-LARGEST, LARGEST).numpy().astype(np.float16)

    answers = held_labels.cpu().numpy().astype(np.int64)
    best: tuple[float, int] | None = None
    history: list[dict[str, float]] = []
    steps, diverged = 0, False
    with _seeded(seed, device):
        model.set_drop_path(recipe.drop_path)
        try:
            groups = parameter_groups(model, recipe)
            anchors = _anchors(model, recipe)
            for entry in _epochs(network, groups, anchors, images, labels, prepare, recipe, seed, progress):
                steps += int(entry.pop("steps"))
                history.append(entry)
                diverged = not math.isfinite(entry["loss"])
                if track and not diverged:
                    score = accuracy(logits_now(), answers)
                    if not math.isnan(score) and (best is None or score > best[0]):
                        best = (score, len(history))
        finally:
            model.set_drop_path(0.0)
            model.eval()
    logits = logits_now()
    score = math.nan if diverged else accuracy(logits, answers)
    diverged = diverged or math.isnan(score)
    return Run(
        accuracy=score,
        evaluated_on=evaluate_on,
        logits=logits,
        labels=answers,
        ids=tuple(held_ids),
        train_accuracy=math.nan if diverged else history[-1]["train_accuracy"],
        seconds=time.perf_counter() - start,
        diverged=diverged,
        history=history,
        steps=steps,
        params=sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and not n.startswith("head.")),
        group=task.group,
        peak_memory_mb=_peak_memory_mb(device),
        best_accuracy=best[0] if best else None,
        best_epoch=best[1] if best else None,
    )


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
    return _forward(function, images.to(next(model.parameters()).device), _Normaliser(model, recipe), recipe)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """AdamW's groups: with ``decay="matrices"`` only trainable tensors that map vectors to vectors decay; with a
    ``layer_decay``, a group for each depth, whose rate is multiplied by its ``factor``."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if recipe.layer_decay < 1.0:
        depth = len(cast("nn.Sequential", model.blocks))
        levels: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in named:
            levels.setdefault((layer_of(name, depth), is_matrix(name, parameter)), []).append(parameter)
        return [
            {
                "params": parameters,
                "weight_decay": recipe.weight_decay if matrix or recipe.decay == "all" else 0.0,
                "factor": recipe.layer_decay ** (depth + 1 - level),
            }
            for (level, matrix), parameters in levels.items()
        ]
    if recipe.decay == "all":
        return [{"params": [p for _, p in named], "weight_decay": recipe.weight_decay}]
    decayed = [p for n, p in named if is_matrix(n, p)]
    spared = [p for n, p in named if not is_matrix(n, p)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def layer_of(name: str, depth: int) -> int:
    """How deep a parameter lies: 0 the embeddings, l the l-th of ``depth`` blocks, ``depth`` + 1 all behind them and
    whatever a method adds."""
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return 0 if name.startswith(("patch_embed.", "pos_embed", "cls_token", "norm_pre.")) else depth + 1


def _anchors(model: nn.Module, recipe: Recipe) -> list[tuple[nn.Parameter, Tensor]]:
    """With ``l2_sp``, the unfrozen backbone parameters and copies of what they are now, before training."""
    if recipe.l2_sp == 0.0:
        return []
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and not n.startswith(("head.", "methods."))]
    if not named:
        raise UserError(
            f"Recipe.l2_sp is {recipe.l2_sp}, but no parameter of the backbone is unfrozen; use it with full or with "
            "another method that edits the backbone's own weights"
        )
    return [(parameter, parameter.detach().clone()) for _, parameter in named]


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Is this a weight that maps vectors to vectors (and not a bias, norm, scale, shift, gamma, prompt or token)?"""
    if name.startswith("methods."):
        name = name.split(".", 2)[2]  # a method may be called "layernorm"
    return parameter.ndim >= 2 and not NOT_MATRICES.search(name)


class _Normaliser:
    """uint8 (B, 3, S, S) -> float with the mean and deviation that the recipe names; one multiply and add."""

    def __init__(self, model: ViT, recipe: Recipe) -> None:
        own = (model.config.mean, model.config.std)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in STATISTICS.get(recipe.normalise, own))
        device = next(model.parameters()).device
        self.factor, self.offset = (1.0 / (255.0 * std)).to(device), (-mean / std).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.offset, images.float(), self.factor)


def _epochs(
    network: nn.Module,
    groups: list[dict[str, Any]],
    anchors: list[tuple[nn.Parameter, Tensor]],
    images: Tensor,
    labels: Tensor,
    prepare: Callable[[Tensor], Tensor],
    recipe: Recipe,
    seed: int,
    progress: bool,
) -> Iterator[dict[str, float]]:
    """Train one epoch per item; the last incomplete batch of an epoch is kept. Stops after an epoch that diverged."""
    device, count = images.device, len(images)
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    random = torch.Generator().manual_seed(seed)  # of its own: the order is the same whatever the method draws
    per_epoch = math.ceil(count / recipe.batch_size)
    total, step = per_epoch * recipe.epochs, 0
    look = 1 if device.type == "cpu" else 16  # reading a loss makes the host wait for an accelerator
    with tqdm(total=total, unit="step", disable=not progress, leave=False) as bar:
        for epoch in range(1, recipe.epochs + 1):
            network.train()
            order = torch.randperm(count, generator=random)
            losses, right, rate = [], torch.zeros((), dtype=torch.long, device=device), 0.0
            for batch in order.split(recipe.batch_size):
                flipped = torch.rand(len(batch), generator=random) < 0.5 if recipe.flip else None
                batch = batch.to(device)
                x, y = images[batch], labels[batch]  # (B, 3, S, S) bytes, or (B, D) features
                if flipped is not None:
                    x = torch.where(flipped.to(device).view(-1, 1, 1, 1), x.flip(-1), x)
                rate = learning_rate(step, total, recipe)
                for group in optimiser.param_groups:
                    group["lr"] = rate * group.get("factor", 1.0)
                optimiser.zero_grad(set_to_none=True)
                with _autocast(device, recipe):
                    logits = network(prepare(x))  # (B, C)
                    loss = F.cross_entropy(logits.float(), y)
                loss.backward()
                optimiser.step()
                for parameter, start in anchors:
                    parameter.data.lerp_(start, min(1.0, rate * recipe.l2_sp))
                step += 1
                losses.append(loss.detach() * len(batch))
                right += (logits.detach().argmax(1) == y).sum()
                bar.update()
                if step % look == 0 and not math.isfinite(losses[-1].item()):
                    break
            mean = torch.stack(losses).sum().item() / count
            yield {
                "epoch": epoch,
                "loss": mean,
                "train_accuracy": 100.0 * right.item() / count,
                "lr": rate,
                "steps": len(losses),
            }
            bar.set_postfix(epoch=epoch, loss=f"{mean:.3f}")
            if not math.isfinite(mean):
                return


@torch.no_grad()
def _forward(
    function: Callable[[Tensor], Tensor], images: Tensor, prepare: Callable[[Tensor], Tensor], recipe: Recipe
) -> Tensor:
    """``function`` of all images in batches, without gradients, as float32 on the images' device."""
    outputs = []
    for batch in images.split(EVALUATION_BATCH):
        with _autocast(images.device, recipe):
            outputs.append(function(prepare(batch)).float())
    return torch.cat(outputs)


def _features_suffice(model: ViT, recipe: Recipe) -> bool:
    """True if only the head trains and what it reads is the same in every epoch."""
    only_head = all(name.startswith("head.") for name, p in model.named_parameters() if p.requires_grad)
    return only_head and not len(model.methods) and not recipe.flip and recipe.drop_path == 0.0


def take(task: Task, split: str, count: int | None = None) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """``count`` evenly spaced images of a split (None: all), uint8 (n, 3, S, S), their labels (n,) and ids."""
    images, labels, ids = task.split(split)
    if count is None or count >= len(images):
        return images, labels, ids
    keep = torch.linspace(0, len(images) - 1, count).round().long()
    return images[keep], labels[keep], tuple(ids[i] for i in keep.tolist())


def _check(model: ViT, task: Task, seed: int, train_on: str, evaluate_on: str, counts: tuple[int | None, ...]) -> None:
    if task.image_size != model.config.image_size:
        raise UserError(
            f"task '{task.name}' has images of {task.image_size} px, the model takes {model.config.image_size} px; "
            f"build the model with create_model(..., image_size={task.image_size}) or load the task with "
            f"load_task(..., size={model.config.image_size})"
        )
    classes = getattr(model.head, "out_features", task.num_classes)
    if classes != task.num_classes:
        raise UserError(
            f"the model's head has {classes} classes, task '{task.name}' has {task.num_classes}; "
            f"build the model with create_model(..., num_classes={task.num_classes})"
        )
    for split in (train_on, evaluate_on):
        if split not in task.splits:
            raise UserError(f"task '{task.name}' has no split '{split}'; it has: {', '.join(sorted(task.splits))}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed!r}; it must be a whole number, 0 or more")
    for count in counts:
        if count is not None and count < 1:
            raise UserError(f"max_train or max_evaluate is {count}; it must be 1 or more, or None for the whole split")
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("no parameter of the model is trainable; build it with create_model(backbone, method, ...)")


def _autocast(device: torch.device, recipe: Recipe) -> Any:
    wanted = recipe.precision == "bf16" or (recipe.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for what runs inside (dropout, drop path) and give the caller's random state back afterwards."""
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach devices that are not ours
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            if mps is not None:
                torch.mps.set_rng_state(mps)


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, KiB on Linux
