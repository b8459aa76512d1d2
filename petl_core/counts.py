"""How many images and classes a task has, by its name alone: for plans and estimates, which must not need the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from petl_core.data import WORLD, embedded_names
from petl_core.data.embedded import find_embedded
from petl_core.data.many_real import SETS
from petl_core.data.vtab1k import STANDARD, TRAIN, VAL
from petl_core.data.world import COUNTS, SHIFTS
from petl_core.data.world.scenes import CLASSES
from petl_core.records import RunSpec


@dataclass(frozen=True)
class Counts:
    """Images of train800, val200 and test (whatever their number is), of further splits together, and classes."""

    train: int = TRAIN
    val: int = VAL
    test: int = 1000
    classes: int = 10
    more: int = 0

    def of(self, split: str) -> int:
        """Images of a split by its name; of a further split, the test split's number."""
        known = {"train800": self.train, "val200": self.val, "train1000": self.train + self.val}
        return known.get(split, self.test)


# V2 10,000, R 30,000, A 7,500 and Sketch 50,889 images; a hundred images of each class, and ten more to choose with
IMAGENET = Counts(100_000, 10_000, 50_000, 1000, 98_389)
CLASSES_OF = {"cifar100": 100, "resisc45": 45, "clevr_dist": 6}
WORLD_COUNTS = Counts(classes=len(CLASSES), more=sum(COUNTS[split] for split in SHIFTS))


def counts(task: str) -> Counts:
    """What is known of a task by its name; for the user's own images, VTAB-1K's numbers and 1,000 test images."""
    base, _, amount = task.partition("@")
    if base == WORLD:
        return WORLD_COUNTS
    if base.startswith("imagenet/"):
        return IMAGENET
    name = PurePath(base).name
    test, classes = Counts.test, Counts.classes
    if base in embedded_names():
        classes = len(find_embedded(base).classes)
    elif base.startswith("real/") and name in SETS and amount.isdecimal():
        held = SETS[name].counts.get(int(amount), VAL)
        return Counts(int(amount) - held, held, SETS[name].test, CLASSES_OF[name])
    elif base.startswith(("vtab:", "vtab1k/")) and name in STANDARD:
        test, classes = STANDARD[name].test, STANDARD[name].classes
    held = min(VAL, round(int(amount) / 5)) if amount.isdecimal() else VAL
    train = int(amount) - held if amount.isdecimal() else TRAIN
    return Counts(train, held, test, classes)


def images(spec: RunSpec) -> tuple[int, int]:
    """How many images a run trains on in an epoch, and how many it evaluates."""
    there = counts(spec.task)
    train, held = there.of(spec.train_on), there.of(spec.evaluate_on)
    return min(train, spec.max_train or train), min(held, spec.max_evaluate or held)


def head_only(spec: RunSpec) -> bool:
    """Does each image pass the backbone once, because nothing before the head moves? As the trainer decides it."""
    return spec.method == "linear" and spec.recipe.drop_path == 0.0 and not spec.recipe.flip
