"""How long a run takes: images times passes through the network, at the speed of its kind of step.

This is the one model of it: plans of a comparison, estimates of a study (``study.estimate``), and the order and the
progress of its runs (``study.executor``) all take it from here. The one timer is ``study.budget.measure``.
"""

from __future__ import annotations

from dataclasses import dataclass

from petl_core.data.load import counts
from petl_core.study.measures import ALPHAS, FEATURE_IMAGES
from petl_core.study.spec import RunSpec
from petl_core.training.recipe import Recipe

HEAD = 0.02  # an epoch of the head alone on an image's kept features, as a share of a pass through the network


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
