"""The rendered world of the robustness chapter: one task, and test sets that are shifted from it.

Twenty things (``objects.py``) in twelve styles (``scenes.py``). The task ``world`` is about one style, ``photo``, and
has the usual splits; four more splits hold the same classes under a shift that stands for one of ImageNet's:

==============  ==========================  ====================================================================
split           stands for                  what it is
==============  ==========================  ====================================================================
``v2``          ImageNet-V2                 a new sample of the target's style: things a little smaller, turned more
``renditions``  ImageNet-R                  eight other styles: cartoon, painting, mosaic, engraving, stained glass,
                                            dots, relief, neon
``sketch``      ImageNet-Sketch             line drawings
``hard``        ImageNet-A                  pictures of the target's style that another model gets wrong
==============  ==========================  ====================================================================

The other model and the task's file: ``petl_make.world_files``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from petl_core.data.embedded import WORLD, WORLD_COUNTS
from petl_core.utils import progress_bar
from petl_make.codec import levels_of
from petl_make.suite.draw import Draw
from petl_make.world.scenes import CLASSES, RENDITIONS, Pose, picture

STYLES_OF = {"renditions": RENDITIONS, "sketch": ("sketch",)}  # every other part is in the target's style
POSES = {"v2": Pose(small=7.5, large=12.0, turn=0.65)}
FILTER_IMAGES, CANDIDATES = 4000, 6000  # of which the hard pictures are chosen


def labels_of(part: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """The labels of a part's samples. Every class equally often; candidates for ``hard`` have the classes in turn."""
    at = np.asarray(numbers)
    if part not in WORLD_COUNTS or part == "hard":
        return at % len(CLASSES)
    count = WORLD_COUNTS[part]
    order = Draw(f"{WORLD} {part} labels", "test", 0, 0).order(count)
    return (np.arange(count) % len(CLASSES))[order][at]


def draw_part(part: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """Levels uint8 (n, 3, 32, 32) of a part's samples with these numbers; each has a chance of its own."""
    styles, pose, levels = STYLES_OF.get(part, ("photo",)), POSES.get(part, Pose()), []
    labels = labels_of(part, numbers)
    for number, label in zip(progress_bar(numbers, f"drawing {part}"), labels, strict=True):
        draw = Draw(f"{WORLD} {part}", "test", int(number), int(number))
        levels.append(levels_of(picture(draw, int(label), draw.pick(styles), pose)))
    return np.stack(levels)
