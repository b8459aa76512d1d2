"""The nineteen tasks of VTAB-1K as data: where each comes from, how it is cut, and what its labels mean.

The cuts and label rules are those of VTAB's own readers (Zhai et al., 2019, arXiv 1910.04867; code at
github.com/google-research/task_adaptation, with the 800 and 200 training images of the versions that others adapted):
the first 800 images of the training part, the first 200 of the validation part, the whole test part, in
tensorflow-datasets' order. A new task is one more entry of ``TASKS``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from petl_core.data.vtab import TRAIN, VAL
from petl_core.utils import UserError

Example = Mapping[str, Any]


class Cut(NamedTuple):
    """Positions ``start`` to ``stop`` (None: the end) of one split of the source; ``total``: the size of that split,
    where the positions hang on it."""

    split: str
    start: int = 0
    stop: int | None = None
    total: int | None = None

    def __str__(self) -> str:
        """As tensorflow-datasets writes it, such as train[2754:2954]."""
        stop = "" if self.stop is None else self.stop
        return f"{self.split}[{self.start or ''}:{stop}]" if self.start or self.stop is not None else self.split


Cuts = dict[str, Cut]  # of "train", "val" and "test"


def official() -> Cuts:
    """The data set's own training, validation and test splits."""
    return {"train": Cut("train", 0, TRAIN), "val": Cut("validation", 0, VAL), "test": Cut("test")}


def cut(total: int, val: int, test: int | str = "test") -> Cuts:
    """``total`` training images: validation begins at ``val`` percent of them, and the test part at ``test`` percent of
    them or is the split of that name."""
    at = total * val // 100
    last = Cut(test) if isinstance(test, str) else Cut("train", total * test // 100, None, total)
    return {"train": Cut("train", 0, TRAIN), "val": Cut("train", at, at + VAL, total), "test": last}


def the(key: str, group: float = 1) -> Callable[[Example], int]:
    """The label is the feature ``key``; of each ``group`` neighbouring values one class is made."""
    return lambda example: int(np.float32(example[key]) // np.float32(group))


LABEL = the("label")


def bin_of(value: float, edges: Iterable[float]) -> int:
    """The index of the last edge that is below ``value``."""
    return int(np.flatnonzero(np.array(list(edges)) < value).max())


def objects(example: Example) -> int:
    """CLEVR: how many objects there are; three to ten, so 0 to 7."""
    return len(example["objects"]["pixel_coords"]) - 3


def closest_object(example: Example) -> int:
    """CLEVR: the depth of the closest object, in six bins."""
    depth = np.asarray(example["objects"]["pixel_coords"])[:, 2].min()
    return bin_of(depth, (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0))


def closest_vehicle(example: Example) -> int:
    """KITTI: the distance in metres of the closest car, van or lorry, in three bins; 3 where there is none."""
    kinds, places = np.asarray(example["objects"]["type"]), np.asarray(example["objects"]["location"]).reshape(-1, 3)
    return bin_of(min([*places[kinds < 3, 2].tolist(), 1000.0]), (-100.0, 8.0, 20.0, 999.0))


@dataclass(frozen=True)
class VtabTask:
    """Where a task comes from and what its labels are; its sizes are in ``petl_core.data.vtab``.

    ``tfds`` names the builder of tensorflow-datasets, ``needs`` the features that ``label`` reads. ``hub`` is a copy on
    the Hugging Face Hub and ``hub_label`` makes labels of its label column. ``twins`` says why equal pixels occur in
    two splits of the original, where they do.
    """

    tfds: str
    hub: str
    cuts: Cuts = field(default_factory=official)
    label: Callable[[Example], int] = LABEL
    needs: Mapping[str, Any] = field(default_factory=lambda: {"label": True})
    names: tuple[str, ...] = ()
    binary: bool = False  # pixels are 0 and 1 at the source; VTAB's reader multiplies them by 255
    hub_label: Callable[[int], int] = int
    twins: str = ""


COUNTS = tuple(f"{number} objects" for number in range(3, 11))
DEPTHS = ("below 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "10 and more")
VEHICLES = ("vehicle below 8 m", "vehicle at 8 to 20 m", "vehicle at 20 m or more", "no vehicle")
DEPTH, DISTANCE = {"objects": {"pixel_coords": True}}, {"objects": {"type": True, "location": True}}
CLEVR, DSPRITES, SMALLNORB = "clevr:3.*.*", "dsprites:2.*.*", "smallnorb:2.*.*"
PETS = "oxford_iiit_pet:4.*.*"  # VTAB read 3.*.*, which is gone; 4.0.0 re-encodes some JPEG files that are damaged
RETINA = "diabetic_retinopathy_detection/btgraham-300:3.*.*"
HALF = 12_150  # of SmallNORB's test images
HALF_OF_TEST = {
    "train": Cut("train", 0, TRAIN),
    "val": Cut("test", 0, VAL, 2 * HALF),
    "test": Cut("test", HALF, None, 2 * HALF),
}
SHAPES = "dSprites draws the first and the last of its 40 orientations alike, so a few images are in two splits"
LAION = "clip-benchmark/wds_vtab-"  # made with VTAB's readers, as lossless WebP (CLIP_benchmark's webdatasets.txt)


def _dsprites(key: str, values: int) -> VtabTask:
    """One of sixteen values of a factor that has ``values``; each sixteenth of them is a class."""
    group = values / 16
    return VtabTask(
        DSPRITES,
        f"{LAION}dsprites_{key}",
        cut(737_280, 80, 90),
        the(key, group),
        {key: True},
        binary=True,
        hub_label=lambda label: int(label // group),
        twins=SHAPES,
    )


def _smallnorb(key: str) -> VtabTask:
    return VtabTask(SMALLNORB, f"{LAION}smallnorb_{key}", HALF_OF_TEST, the(key), {key: True})


CLEVR_CUT = cut(70_000, 90, "validation")
TASKS: dict[str, VtabTask] = {
    "caltech101": VtabTask("caltech101:3.*.*", f"{LAION}caltech101", cut(3060, 90)),
    "cifar": VtabTask("cifar100:3.*.*", f"{LAION}cifar100", cut(50_000, 90)),
    "dtd": VtabTask("dtd:3.*.*", f"{LAION}dtd"),
    "oxford_flowers102": VtabTask("oxford_flowers102:2.*.*", f"{LAION}flowers"),
    "oxford_iiit_pet": VtabTask(PETS, f"{LAION}pets", cut(3680, 80)),
    "svhn": VtabTask("svhn_cropped:3.*.*", f"{LAION}svhn", cut(73_257, 90)),
    "sun397": VtabTask("sun397/tfds:4.*.*", "dpdl-benchmark/sun397"),
    "patch_camelyon": VtabTask("patch_camelyon:2.*.*", f"{LAION}pcam"),
    "eurosat": VtabTask("eurosat/rgb:2.*.*", f"{LAION}eurosat", cut(27_000, 60, 80)),
    "resisc45": VtabTask("resisc45:3.*.*", f"{LAION}resisc45", cut(31_500, 60, 80)),
    "diabetic_retinopathy": VtabTask(RETINA, f"{LAION}diabetic_retinopathy"),
    "clevr_count": VtabTask(CLEVR, f"{LAION}clevr_count_all", CLEVR_CUT, objects, DEPTH, COUNTS),
    "clevr_dist": VtabTask(CLEVR, f"{LAION}clevr_closest_object_distance", CLEVR_CUT, closest_object, DEPTH, DEPTHS),
    "dmlab": VtabTask("dmlab:2.0.1", f"{LAION}dmlab"),
    "kitti": VtabTask(
        "kitti:3.*.*", f"{LAION}kitti_closest_vehicle_distance", official(), closest_vehicle, DISTANCE, VEHICLES
    ),
    "dsprites_loc": _dsprites("label_x_position", 32),
    "dsprites_ori": _dsprites("label_orientation", 40),
    "smallnorb_azi": _smallnorb("label_azimuth"),
    "smallnorb_ele": _smallnorb("label_elevation"),
}


def find(name: str) -> VtabTask:
    """The task of that name; UserError with the closest names, or all, where there is none."""
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the names are {', '.join(TASKS)}"
        raise UserError(f"VTAB-1K has no task {name!r}; {hint}")
    return TASKS[name]
