"""The sizes of VTAB-1K's nineteen tasks, as VTAB's own readers have them (Zhai et al., 2019, arXiv 1910.04867).

Every task has ``TRAIN`` images to train on and ``VAL`` to choose with.
"""

from __future__ import annotations

from typing import NamedTuple

TRAIN, VAL = 800, 200


class VtabSizes(NamedTuple):
    """A task's group, classes and test images, and whether its originals never went through JPEG."""

    group: str
    classes: int
    test: int
    lossless: bool


VTAB_SIZES = {
    "caltech101": VtabSizes("natural", 102, 6084, False),
    "cifar": VtabSizes("natural", 100, 10_000, True),
    "dtd": VtabSizes("natural", 47, 1880, False),
    "oxford_flowers102": VtabSizes("natural", 102, 6149, False),
    "oxford_iiit_pet": VtabSizes("natural", 37, 3669, False),
    "svhn": VtabSizes("natural", 10, 26_032, True),
    "sun397": VtabSizes("natural", 397, 21_750, False),
    "patch_camelyon": VtabSizes("specialised", 2, 32_768, True),
    "eurosat": VtabSizes("specialised", 10, 5400, False),
    "resisc45": VtabSizes("specialised", 45, 6300, False),
    "diabetic_retinopathy": VtabSizes("specialised", 5, 42_670, False),
    "clevr_count": VtabSizes("structured", 8, 15_000, True),
    "clevr_dist": VtabSizes("structured", 6, 15_000, True),
    "dmlab": VtabSizes("structured", 6, 22_735, False),
    "kitti": VtabSizes("structured", 4, 711, True),
    "dsprites_loc": VtabSizes("structured", 16, 73_728, True),
    "dsprites_ori": VtabSizes("structured", 16, 73_728, True),
    "smallnorb_azi": VtabSizes("structured", 18, 12_150, True),
    "smallnorb_ele": VtabSizes("structured", 9, 12_150, True),
}
