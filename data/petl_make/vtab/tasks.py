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

from petl_core.data.vtab_sizes import TRAIN, VAL
from petl_core.utils import UserError

Example = Mapping[str, Any]


class Cut(NamedTuple):
    """Positions ``start`` to ``stop`` (None: the end) of one split of the source."""

    split: str
    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        """As tensorflow-datasets writes it, such as train[2754:2954]."""
        stop = "" if self.stop is None else self.stop
        return f"{self.split}[{self.start or ''}:{stop}]" if self.start or self.stop is not None else self.split


Cuts = dict[str, Cut]  # of "train", "val" and "test"


def official(test: str = "test") -> Cuts:
    """The data set's own training, validation and test splits."""
    return {"train": Cut("train", 0, TRAIN), "val": Cut("validation", 0, VAL), "test": Cut(test)}


def cut(total: int, val: int, test: int | str = "test") -> Cuts:
    """``total`` training images: validation begins at ``val`` percent of them, and the test part at ``test`` percent of
    them or is the split of that name."""
    at = total * val // 100
    last = Cut(test) if isinstance(test, str) else Cut("train", total * test // 100)
    return {"train": Cut("train", 0, TRAIN), "val": Cut("train", at, at + VAL), "test": last}


def the(key: str, group: float = 1) -> Callable[[Example], int]:
    """The label is the feature ``key``; of each ``group`` neighbouring values one class is made."""
    return lambda example: int(np.float32(example[key]) // np.float32(group))


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


LABEL = the("label")


@dataclass(frozen=True)
class VtabTask:
    """One task.

    ``test`` is the number of test images; ``lossless`` whether the originals never went through JPEG. ``tfds`` names
    the builder, ``needs`` the features that ``label`` reads, ``totals`` the sizes of source splits that the cuts rely
    on. ``hub`` is a copy on the Hugging Face Hub and ``hub_label`` makes labels of its label column. ``twins`` says why
    equal pixels occur in two splits of the original, where they do.
    """

    group: str
    classes: int
    test: int
    lossless: bool
    tfds: str
    cuts: Cuts = field(default_factory=official)
    label: Callable[[Example], int] = LABEL
    needs: Mapping[str, Any] = field(default_factory=lambda: {"label": True})
    totals: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    binary: bool = False  # pixels are 0 and 1 at the source; VTAB's reader multiplies them by 255
    hub: str = ""
    hub_label: Callable[[int], int] = int
    twins: str = ""


def _hub(name: str) -> str:
    """A copy made with VTAB's readers, as lossless WebP, by LAION's CLIP_benchmark (its benchmark/webdatasets.txt)."""
    return f"clip-benchmark/wds_vtab-{name}"


COUNTS = tuple(f"{number} objects" for number in range(3, 11))
DEPTHS = ("below 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "10 and more")
VEHICLES = ("vehicle below 8 m", "vehicle at 8 to 20 m", "vehicle at 20 m or more", "no vehicle")
DEPTH, DISTANCE = {"objects": {"pixel_coords": True}}, {"objects": {"type": True, "location": True}}
CLEVR, DSPRITES, SMALLNORB = "clevr:3.*.*", "dsprites:2.*.*", "smallnorb:2.*.*"
HALF_OF_TEST = {"train": Cut("train", 0, TRAIN), "val": Cut("test", 0, VAL), "test": Cut("test", 12_150)}
SHAPES = "dSprites draws the first and the last of its 40 orientations alike, so a few images are in two splits"


def _clevr(classes: int, label: Callable[[Example], int], names: tuple[str, ...], hub: str) -> VtabTask:
    cuts, totals = cut(70_000, 90, "validation"), {"train": 70_000}
    more: dict[str, Any] = {"needs": DEPTH, "totals": totals, "names": names, "hub": _hub(hub)}
    return VtabTask("structured", classes, 15_000, True, CLEVR, cuts, label, **more)


def _dsprites(key: str, values: int) -> VtabTask:
    cuts, totals, group = cut(737_280, 80, 90), {"train": 737_280}, values / 16
    more: dict[str, Any] = {"needs": {key: True}, "totals": totals, "binary": True, "twins": SHAPES}
    more |= {"hub": _hub(f"dsprites_{key}"), "hub_label": lambda label: int(label // group)}
    return VtabTask("structured", 16, 73_728, True, DSPRITES, cuts, the(key, group), **more)


def _smallnorb(key: str, classes: int) -> VtabTask:
    more: dict[str, Any] = {"needs": {key: True}, "totals": {"test": 24_300}, "hub": _hub(f"smallnorb_{key}")}
    return VtabTask("structured", classes, 12_150, True, SMALLNORB, HALF_OF_TEST, the(key), **more)


def _natural(classes: int, test: int, lossless: bool, tfds: str, hub: str, **more: Any) -> VtabTask:
    return VtabTask("natural", classes, test, lossless, tfds, hub=hub, **more)


def _special(classes: int, test: int, lossless: bool, tfds: str, hub: str, **more: Any) -> VtabTask:
    return VtabTask("specialised", classes, test, lossless, tfds, hub=hub, **more)


def _trained(total: int, val: int, test: int | str = "test") -> dict[str, Any]:
    return {"cuts": cut(total, val, test), "totals": {"train": total}}


PETS = "oxford_iiit_pet:4.*.*"  # VTAB read 3.*.*, which is gone; 4.0.0 re-encodes some JPEG files that are damaged
RETINA = "diabetic_retinopathy_detection/btgraham-300:3.*.*"

TASKS: dict[str, VtabTask] = {
    "caltech101": _natural(102, 6084, False, "caltech101:3.*.*", _hub("caltech101"), **_trained(3060, 90)),
    "cifar": _natural(100, 10_000, True, "cifar100:3.*.*", _hub("cifar100"), **_trained(50_000, 90)),
    "dtd": _natural(47, 1880, False, "dtd:3.*.*", _hub("dtd")),
    "oxford_flowers102": _natural(102, 6149, False, "oxford_flowers102:2.*.*", _hub("flowers")),
    "oxford_iiit_pet": _natural(37, 3669, False, PETS, _hub("pets"), **_trained(3680, 80)),
    "svhn": _natural(10, 26_032, True, "svhn_cropped:3.*.*", _hub("svhn"), **_trained(73_257, 90)),
    "sun397": _natural(397, 21_750, False, "sun397/tfds:4.*.*", "dpdl-benchmark/sun397"),
    "patch_camelyon": _special(2, 32_768, True, "patch_camelyon:2.*.*", _hub("pcam")),
    "eurosat": _special(10, 5400, False, "eurosat/rgb:2.*.*", _hub("eurosat"), **_trained(27_000, 60, 80)),
    "resisc45": _special(45, 6300, False, "resisc45:3.*.*", _hub("resisc45"), **_trained(31_500, 60, 80)),
    "diabetic_retinopathy": _special(5, 42_670, False, RETINA, _hub("diabetic_retinopathy")),
    "clevr_count": _clevr(8, objects, COUNTS, "clevr_count_all"),
    "clevr_dist": _clevr(6, closest_object, DEPTHS, "clevr_closest_object_distance"),
    "dmlab": VtabTask("structured", 6, 22_735, False, "dmlab:2.0.1", hub=_hub("dmlab")),
    "kitti": VtabTask(
        *("structured", 4, 711, True, "kitti:3.*.*", official(), closest_vehicle, DISTANCE),
        names=VEHICLES,
        hub=_hub("kitti_closest_vehicle_distance"),
    ),
    "dsprites_loc": _dsprites("label_x_position", 32),
    "dsprites_ori": _dsprites("label_orientation", 40),
    "smallnorb_azi": _smallnorb("label_azimuth", 18),
    "smallnorb_ele": _smallnorb("label_elevation", 9),
}


def find(name: str) -> VtabTask:
    """The task of that name; UserError with the closest names, or all, where there is none."""
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the names are {', '.join(TASKS)}"
        raise UserError(f"VTAB-1K has no task {name!r}; {hint}")
    return TASKS[name]
