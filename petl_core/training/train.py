"""The trainer: one model, one task, one recipe, one seed, one device -> one ``Run``. It chooses and writes nothing.

AdamW with a linear warm-up and a cosine per step. The images lie on the model's device as bytes (or are streamed to it,
``feeds.py``) and are augmented and normalised there, batch by batch. The seed fixes the order of the images, flips,
augmentation, dropout and drop path: equal calls on one CPU with one number of threads give equal bits, and the caller's
random state is left as it was.

Where nothing random happens to an image, whatever lies below the first block that trains or that a method edits gives
the same in every epoch, so each training image passes it once (``still_blocks``). Linear probing is the extreme case.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from petl_core.models.build import count_trainable
from petl_core.training.augment import augmentation_of
from petl_core.training.evaluation import accuracy, evaluate, forward, predict
from petl_core.training.feeds import feeds, take
from petl_core.training.once import Part, parts_of
from petl_core.training.recipe import CHOICES, Recipe, anchors_of, learning_rate, parameter_groups
from petl_core.training.steps import NO_TRIAL, Gradients, at_work, compiling_pays, peak_memory_mb
from petl_core.utils import UserError, progress_bar

if TYPE_CHECKING:
    from tqdm import tqdm

    from petl_core.data.task import Task
    from petl_core.vit import ViT

__all__ = ["CHOICES", "Recipe", "Run", "accuracy", "forward", "learning_rate", "parameter_groups", "predict", "take"]
__all__ += ["train"]
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
    cpu_seconds: float | None = None  # of this process, all threads together: ``seconds`` of a busy machine are longer
    measures: dict[str, Any] | None = None  # of the trained model, where the spec asks for some (``study.measures``)

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
    splits = [(train_on, max_train), (evaluate_on, max_evaluate)]
    _check(model, task, recipe, seed)
    start, start_cpu, device = time.perf_counter(), time.process_time(), next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    (images, labels, _), (held_images, held_labels, ids) = feeds(task, splits, device)
    answers = held_labels.cpu().numpy().astype(np.int64)
    part, held = parts_of(model, recipe, images, held_images)
    scores: list[float] = []
    with at_work(model, recipe, seed), progress_bar(unit="step", shown=progress) as bar:
        training = Training(model, part, labels, recipe, seed, task.image_size)
        bar.reset(training.total)
        for _ in range(recipe.epochs):
            if not training.epoch(bar):
                break
            if track:
                scores.append(accuracy(_answer(model, held, task, evaluate_on, recipe), answers))
    logits, last = _answer(model, held, task, evaluate_on, recipe), training.history[-1]
    score = accuracy(logits, answers) if math.isfinite(last["loss"]) else math.nan
    best, best_epoch = _best(scores)
    return Run(
        accuracy=score,
        evaluated_on=evaluate_on,
        logits=logits,
        labels=answers,
        ids=tuple(ids),
        train_accuracy=math.nan if math.isnan(score) else last["train_accuracy"],
        seconds=time.perf_counter() - start,
        diverged=math.isnan(score),
        history=training.history,
        steps=training.step,
        params=count_trainable(model),
        group=task.group,
        peak_memory_mb=peak_memory_mb(device),
        best_accuracy=best,
        best_epoch=best_epoch,
        micro_batch=training.gradients.micro,
        cpu_seconds=time.process_time() - start_cpu,
    )


class Training:
    """A model on its way through a recipe, on the images of ``part`` and their labels (n,). ``epoch`` goes on."""

    def __init__(self, model: ViT, part: Part, labels: Tensor, recipe: Recipe, seed: int, image_size: int) -> None:
        self.model, self.part, self.labels, self.recipe = model, part, labels, recipe
        self.history: list[dict[str, float]] = []  # of the epochs
        self.step, self.total = 0, recipe.epochs * math.ceil(len(labels) / recipe.batch_size)
        self.random = torch.Generator().manual_seed(seed)  # of its own: the order is the same whatever a method draws
        self.augmentation = augmentation_of(model, recipe, image_size, seed)
        self.anchors = anchors_of(model, recipe)
        self.optimiser = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.lr, fused=True)
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.gradients = Gradients(part.network, parameters, recipe)
        device = labels.device
        if part.network is not model.head and compiling_pays(model.config, len(labels), recipe, device):
            self.gradients.compile()
        if device.type not in NO_TRIAL:
            model.train()
            first = torch.arange(len(labels))[: recipe.batch_size]
            (x,) = part.images.batches([first])
            self.gradients.settle(part.prepare(x), labels[first.to(device)])

    def epoch(self, bar: tqdm[Any]) -> bool:
        """Train on every image once, in a new order; the last incomplete batch is kept. Keeps in ``history`` the mean
        loss, the accuracy of the batches in percent and the last rate. Ends early, with False, where a loss is not
        finite."""
        recipe, optimiser, anchors = self.recipe, self.optimiser, self.anchors
        device, count = self.labels.device, len(self.labels)
        look = 1 if device.type == "cpu" else 16  # reading a loss makes the host wait for an accelerator
        losses: list[Tensor] = []
        right = torch.zeros((), dtype=torch.long, device=device)
        self.model.train()
        batches = torch.randperm(count, generator=self.random).split(recipe.batch_size)
        for batch, x in zip(batches, self.part.images.batches(batches), strict=True):
            inputs = self.prepared(x)
            loss, correct = self.gradients(inputs, self.labels[batch.to(device)])  # forward, loss, backward
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.gradients.parameters, recipe.clip_norm)
            rate = self.set_rate()
            optimiser.step()
            for parameter, start in anchors:
                parameter.data.lerp_(start, min(1.0, rate * recipe.l2_sp))
            self.step += 1
            losses.append(loss)
            right += correct
            bar.update()
            if self.step % look == 0 and not math.isfinite(loss.item()):
                break
        mean = torch.stack(losses).sum().item() / count
        bar.set_postfix(loss=f"{mean:.3f}")
        entry = {"epoch": len(self.history) + 1, "loss": mean, "train_accuracy": 100.0 * right.item() / count}
        self.history.append({**entry, "lr": rate})
        return math.isfinite(mean)

    def prepared(self, x: Tensor) -> Tensor:
        """A batch of the feed, bytes (B, 3, S, S) or what still blocks made of it, as the network reads it."""
        if self.recipe.flip:
            flipped = torch.rand(len(x), generator=self.random) < 0.5
            x = torch.where(flipped.to(x.device).view(-1, 1, 1, 1), x.flip(-1), x)
        if self.augmentation is not None:
            return self.augmentation(x, self.part.prepare)
        return self.part.prepare(x)

    def set_rate(self) -> float:
        """The learning rate of this step, before the factors of layer decay."""
        rate = learning_rate(self.step, self.total, self.recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        return rate


def _answer(model: ViT, held: Part, task: Task, split: str, recipe: Recipe) -> np.ndarray:
    """Logits (n, C), float16, of the images that are evaluated; all are NaN if one is not finite."""
    model.eval()
    logits = evaluate(held.network, held.images, held.prepare, recipe).cpu()
    if not torch.isfinite(logits).all():
        return np.full(logits.shape, np.nan, dtype=np.float16)
    return task.restrict(split, logits).clamp(-LARGEST, LARGEST).numpy().astype(np.float16)


def _best(scores: list[float]) -> tuple[float | None, int | None]:
    """The highest accuracy of all epochs and the first epoch that had it; None where there is none."""
    if np.isnan(scores).all():
        return None, None
    return float(np.nanmax(scores)), int(np.nanargmax(scores)) + 1


def _check(model: ViT, task: Task, recipe: Recipe, seed: int) -> None:
    """``UserError`` where these do not go together."""
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
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed!r}; it must be a whole number, 0 or more")
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("no parameter of the model is trainable; build it with create_model(backbone, method, ...)")
