"""How many images and classes a task has, by its name alone: for plans and estimates, which must not need the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from petl_core.data.embedded import SHIFTS, WORLD, WORLD_COUNTS, embedded_names, find_embedded, validation_images
from petl_core.data.many import SETS
from petl_core.data.vtab_sizes import TRAIN, VAL, VTAB_SIZES


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


def counts(task: str) -> Counts:
    """What is known of a task by its name; for the user's own images, VTAB-1K's numbers and 1,000 test images."""
    base, _, amount = task.partition("@")
    if base == WORLD:
        more = sum(WORLD_COUNTS[split] for split in SHIFTS)
        return Counts(classes=len(find_embedded(WORLD).classes), more=more)
    if base.startswith("imagenet/"):
        return IMAGENET
    name = PurePath(base).name
    test, classes = Counts.test, Counts.classes
    if base in embedded_names():
        classes = len(find_embedded(base).classes)
    elif base.startswith("real/") and name in SETS and amount.isdecimal():
        held = SETS[name].counts.get(int(amount), VAL)
        return Counts(int(amount) - held, held, SETS[name].test, CLASSES_OF[name])
    elif base.startswith(("vtab:", "vtab1k/")) and name in VTAB_SIZES:
        test, classes = VTAB_SIZES[name].test, VTAB_SIZES[name].classes
    held = validation_images(int(amount)) if amount.isdecimal() else VAL
    train = int(amount) - held if amount.isdecimal() else TRAIN
    return Counts(train, held, test, classes)
