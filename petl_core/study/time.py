"""What a run costs: how many images it passes through the network."""

from __future__ import annotations

from petl_core.data.load import counts
from petl_core.study.records import RunSpec


def images(spec: RunSpec) -> tuple[int, int]:
    """How many images a run trains on in an epoch, and how many it evaluates."""
    there = counts(spec.task)
    train, held = there.of(spec.train_on), there.of(spec.evaluate_on)
    return min(train, spec.max_train or train), min(held, spec.max_evaluate or held)


def head_only(spec: RunSpec) -> bool:
    """Does each image pass the backbone once, because nothing before the head moves? As the trainer decides it."""
    return (
        spec.method == "linear"
        and spec.recipe.drop_path == 0.0
        and not spec.recipe.flip
        and spec.recipe.augment == "none"
    )
