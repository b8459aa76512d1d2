"""How long a run takes: images times passes through the network, at the speed of its kind of step.

This is the one model of it, with its one timer: plans of a comparison (``study.budget``), estimates of a study
(``study.estimate``), and the order and progress of its runs (``study.executor``) all take it from here.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from petl_core.data.load import counts
from petl_core.data.task import Task
from petl_core.models.build import count_trainable, create_model
from petl_core.models.weights import config_of
from petl_core.study.measures import ALPHAS, FEATURE_IMAGES
from petl_core.study.spec import RunSpec
from petl_core.training.train import Recipe, predict, take, train

HEAD = 0.02  # an epoch of the head alone on an image's kept features, as a share of a pass through the network
FEW = 8  # images that are timed first
MEASURE, ROUNDS = 1.5, 3  # seconds for timing a method's steps, in so many rounds, if the first images take less


@dataclass(frozen=True)
class Speed:
    """Seconds of one kind of run: to build the model, to train on an image once, to evaluate one.

    ``head_only``: each image passes the network once, whatever the epochs; ``train`` is then on its kept features."""

    build: float
    train: float
    evaluate: float
    head_only: bool = False

    def seconds(self, images: int, epochs: int, held: int) -> float:
        """Seconds of a run that trains on ``images`` for ``epochs``, and evaluates ``held``."""
        passes = held + images if self.head_only else held
        return self.build + self.train * images * epochs + self.evaluate * passes


PASSES = Speed(0.0, 3.0, 1.0)  # in passes of one image instead of seconds: a step is one forward and two backward
PASSES_OF_HEAD = Speed(0.0, HEAD, 1.0, head_only=True)


def images(spec: RunSpec) -> tuple[int, int]:
    """How many images a run trains on in an epoch, and how many it evaluates."""
    there = counts(spec.task)
    train, held = there.of(spec.train_on), there.of(spec.evaluate_on)
    return min(train, spec.max_train or train), min(held, spec.max_evaluate or held)


def head_only(method: str, recipe: Recipe) -> bool:
    """Does each image pass the backbone once, because nothing before the head moves? As the trainer decides it."""
    return method == "linear" and recipe.drop_path == 0.0 and not recipe.flip and recipe.augment == "none"


def seconds(spec: RunSpec, speed: Speed) -> float:
    """Seconds of a run with what it measures, without reading its images from the disk."""
    count, held = images(spec)
    passes = held
    if spec.track and not speed.head_only:  # else the logits of each epoch cost nothing
        passes += held * spec.recipe.epochs
    if "displacement" in spec.measure:
        passes += 2 * min(FEATURE_IMAGES, held)
    if "interpolation" in spec.measure:
        passes += (len(ALPHAS) + 1) * (held + counts(spec.task).more)
    return speed.seconds(count, spec.recipe.epochs, passes)


def cost(spec: RunSpec) -> float:
    """Work of a run in passes of one image, roughly: for the order of runs and the time left."""
    return seconds(spec, PASSES_OF_HEAD if head_only(spec.method, spec.recipe) else PASSES)


def measure(
    backbone: str, method: str, task: Task, device: str, recipe: Recipe | None = None, *, pretrained: bool = True
) -> Speed:
    """Time a method on a few images of a task, as its runs will be: one thread on a CPU.

    Steps are those of ``recipe`` (default: batches of 32). Of several rounds the median counts, which one hiccup of the
    machine cannot move; with a network so slow that the first few images take long, these are the measurement.
    """
    recipe, threads = recipe or Recipe(batch_size=32), torch.get_num_threads()
    count = min(len(task.splits["train800"]), recipe.batch_size)
    few = min(FEW, count)
    config_of(backbone)  # which imports timm, before anything is timed
    try:
        if device == "cpu":
            torch.set_num_threads(1)
        start = time.perf_counter()
        size, classes = task.image_size, task.num_classes
        model = create_model(backbone, method, num_classes=classes, image_size=size, pretrained=pretrained).to(device)
        build = time.perf_counter() - start
        pictures = take(task, "train800", count)[0]

        def to_train(most: int, epochs: int) -> float:
            its = replace(recipe, epochs=epochs)
            run = train(model, task, its, train_on="train800", max_train=most, max_evaluate=1, evaluate_on="val200")
            return run.seconds / (most * epochs)

        def to_evaluate(most: int) -> float:
            start = time.perf_counter()
            predict(model, pictures[:most], recipe)
            return (time.perf_counter() - start) / most

        to_train(1, 1)  # to warm up
        each, evaluate = to_train(few, 1), to_evaluate(few)
        epochs = int(MEASURE / ROUNDS / (each * count))
        if epochs:
            each = _median(lambda: to_train(count, epochs))
            evaluate = _median(lambda: to_evaluate(count))
    finally:
        torch.set_num_threads(threads)
    only_head = count_trainable(model) == 0 and head_only(method, recipe)
    return Speed(build, HEAD * evaluate if only_head else each, evaluate, only_head)


def _median(timed: Callable[[], float]) -> float:
    return statistics.median(timed() for _ in range(ROUNDS))
