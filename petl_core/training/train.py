"""The trainer: one model, one task, one recipe, one seed -> one ``Run``. It chooses nothing and writes nothing.

AdamW with a linear warm-up and a cosine per step. The images lie on the model's device as bytes (or are streamed to it,
``feeds.py``) and are augmented and normalised there, batch by batch. The seed fixes the order of the images, flips,
augmentation, dropout and drop path: equal calls on one CPU with one number of threads give equal bits, and the caller's
random state is left as it was. Under torchrun, several processes share each batch (``distributed.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from petl_core.training.augment import Augmentation, Normaliser
from petl_core.training.distributed import team
from petl_core.training.evaluation import accuracy, evaluate, forward, predict
from petl_core.training.feeds import Feed, Resident, feed, fits, take
from petl_core.training.recipe import CHOICES, Recipe, anchors_of, is_matrix, layer_of, learning_rate, parameter_groups
from petl_core.training.steps import Gradients, checkpointed, compiling_pays, evaluation_batch, peak_memory_mb, seeded
from petl_core.utils import UserError, progress_bar

if TYPE_CHECKING:
    from petl_core.data.task import Task
    from petl_core.vit import ViT

__all__ = ["CHOICES", "Recipe", "Run", "accuracy", "forward", "is_matrix", "layer_of", "learning_rate"]
__all__ += ["parameter_groups", "predict", "take", "train"]
LARGEST = float(np.finfo(np.float16).max)


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
    micro_batch: int | None = None  # images at once, where the device's memory was too small for the recipe's batch
    measures: dict[str, Any] | None = (
        None  # of the trained model, where the spec asks for some (petl_core.study.measures)
    )

    @property
    def test_accuracy(self) -> float | None:
        """The accuracy where the test split was evaluated, otherwise None."""
        return self.accuracy if self.evaluated_on == "test" else None


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
    Raises ``UserError`` if the model does not fit the task, a split is unknown, nothing is trainable, or the device has
    not enough memory for one image.
    """
    _check(model, task, recipe, seed, train_on, evaluate_on, (max_train, max_evaluate))
    device, group = next(model.parameters()).device, team()
    start = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    resident = fits(task, [(train_on, max_train), (evaluate_on, max_evaluate)], device)
    images, labels, _ = feed(task, train_on, max_train, device, resident)
    held_images, held_labels, held_ids = feed(task, evaluate_on, max_evaluate, device, resident)
    batch = evaluation_batch(model.config, device)

    network: nn.Module = model
    prepare: Callable[[Tensor], Tensor] = Normaliser(model, recipe)
    if _features_suffice(model, recipe):  # nothing before the head moves: pass each image through the backbone once
        model.eval()
        images = Resident(evaluate(model.forward_features, images, prepare, recipe, batch, group))
        held_images = Resident(evaluate(model.forward_features, held_images, prepare, recipe, batch, group))
        network, prepare = model.head, nn.Identity()

    def logits_now() -> np.ndarray:
        network.eval()
        logits = evaluate(network, held_images, prepare, recipe, batch, group).cpu()
        if not torch.isfinite(logits).all():
            return np.full(logits.shape, np.nan, dtype=np.float16)
        return task.restrict(evaluate_on, logits).clamp(-LARGEST, LARGEST).numpy().astype(np.float16)

    answers = held_labels.cpu().numpy().astype(np.int64)
    best: tuple[float, int] | None = None
    history: list[dict[str, float]] = []
    steps, diverged = 0, False
    with seeded(seed + group.rank, device), checkpointed(model, recipe.checkpointing):
        model.set_drop_path(recipe.drop_path)
        try:
            optimiser = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.lr, fused=True)
            gradients = Gradients(network, optimiser, recipe, group)
            if network is model and compiling_pays(model.config, len(images), recipe, device):
                gradients.compile()
            augmentation = _augmentation(model, task, recipe, prepare, seed)
            anchors = anchors_of(model, recipe)
            for entry in _epochs(gradients, anchors, images, labels, augmentation, prepare, seed, progress):
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
        peak_memory_mb=peak_memory_mb(device),
        best_accuracy=best[0] if best else None,
        best_epoch=best[1] if best else None,
        micro_batch=gradients.micro,
    )


def _augmentation(
    model: ViT, task: Task, recipe: Recipe, prepare: Callable[[Tensor], Tensor], seed: int
) -> Augmentation | None:
    if recipe.augment == "none" or not isinstance(prepare, Normaliser):
        return None
    device, fill = next(model.parameters()).device, (255.0 * prepare.mean).round()
    return Augmentation(recipe.augment, task.image_size, model.config.image_size, fill, device, seed)


def _epochs(
    gradients: Gradients,
    anchors: list[tuple[nn.Parameter, Tensor]],
    images: Feed,
    labels: Tensor,
    augmentation: Augmentation | None,
    prepare: Callable[[Tensor], Tensor],
    seed: int,
    progress: bool,
) -> Iterator[dict[str, float]]:
    """Train one epoch per item; the last incomplete batch of an epoch is kept. Stops after an epoch that diverged."""
    recipe, group, optimiser = gradients.recipe, gradients.team, gradients.optimiser
    device, count = images.device, len(images)
    random = torch.Generator().manual_seed(seed)  # of its own: the order is the same whatever the method draws
    per_epoch = math.ceil(count / recipe.batch_size)
    total, step = per_epoch * recipe.epochs, 0
    look = 1 if device.type == "cpu" else 16  # reading a loss makes the host wait for an accelerator
    with progress_bar(total=total, unit="step", shown=progress) as bar:
        for epoch in range(1, recipe.epochs + 1):
            gradients.network.train()
            batches = torch.randperm(count, generator=random).split(recipe.batch_size)
            shares = [batch[group.part(len(batch))] for batch in batches]
            losses, right, rate = [], torch.zeros((), dtype=torch.long, device=device), 0.0
            for batch, share, x in zip(batches, shares, images.batches(shares), strict=True):
                part = group.part(len(batch))  # x: (b, 3, S, S) bytes, or (b, D) features
                if recipe.flip:
                    flipped = (torch.rand(len(batch), generator=random) < 0.5)[part]
                    x = torch.where(flipped.to(device).view(-1, 1, 1, 1), x.flip(-1), x)
                if augmentation is not None:
                    drawn = augmentation.draw(len(batch), part)
                    inputs = augmentation.erase(prepare(augmentation.change(x, drawn)), drawn)
                else:
                    inputs = prepare(x)
                rate = learning_rate(step, total, recipe)
                for parameters in optimiser.param_groups:
                    parameters["lr"] = rate * parameters.get("factor", 1.0)
                loss, correct = gradients(inputs, labels[share.to(device)], len(batch))
                optimiser.step()
                for parameter, start in anchors:
                    parameter.data.lerp_(start, min(1.0, rate * recipe.l2_sp))
                step += 1
                losses.append(loss)
                right += correct
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


def _features_suffice(model: ViT, recipe: Recipe) -> bool:
    """True if only the head trains and what it reads is the same in every epoch."""
    only_head = all(name.startswith("head.") for name, p in model.named_parameters() if p.requires_grad)
    still = not recipe.flip and recipe.augment == "none" and recipe.drop_path == 0.0
    return only_head and not len(model.methods) and still


def _check(
    model: ViT,
    task: Task,
    recipe: Recipe,
    seed: int,
    train_on: str,
    evaluate_on: str,
    counts: tuple[int | None, ...],
) -> None:
    larger = task.image_size > model.config.image_size and recipe.augment != "none"
    if task.image_size != model.config.image_size and not larger:
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
