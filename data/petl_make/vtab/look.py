"""What is looked at in a task's images, when a pack is made of them and when a folder or a pack is checked.

A copy of VTAB-1K with other images, fewer of them, or JPEG copies of lossless ones gives other accuracies (on CIFAR-100
ten points were reported), and nothing in training says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from petl_core.data.vtab import TRAIN, VAL, VTAB_SIZES

BLOCKY = 1.05  # steps at multiples of 8 pixels stronger than those beside them by so much: the mark of JPEG
STEPS = "steps_at_8_pixels"  # the blockiness in a pack; older packs have another measure, under another name
LOOKED_AT = 200  # images for ``blockiness``
JPEG_LIKE = {"JPEG", "MPO", "lossy WEBP"}  # formats that change pixels


@dataclass
class Look:
    """What a task's images are like: how many in each part and of how many classes, their formats, their blockiness."""

    name: str
    classes: int
    counts: dict[str, int] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)  # classes with an image in each part
    formats: Counter[str] = field(default_factory=Counter)
    blockiness: float = math.nan

    def count(self, part: str, labels: Iterable[int]) -> None:
        """Take down the labels of a part."""
        labels = list(labels)
        self.counts[part], self.present[part] = len(labels), len(set(labels))

    def wrong_counts(self, called: Mapping[str, str]) -> list[str]:
        """Where the numbers of images are not those of VTAB-1K; ``called``: what to call each part that is compared."""
        sizes = VTAB_SIZES.get(self.name)
        wanted = {"train": TRAIN, "val": VAL}
        owner = "VTAB-1K"
        if sizes is not None:
            wanted, owner = wanted | {"test": sizes.test}, f"VTAB-1K's {self.name}"
        return [
            f"{self.counts[part]:,} images in {called[part]}; {owner} has {count:,}"
            for part, count in wanted.items()
            if part in called and self.counts[part] != count
        ]

    @property
    def jpeg_files(self) -> bool:
        return bool(JPEG_LIKE & set(self.formats))

    @property
    def jpeg_marks(self) -> bool:
        return self.blockiness > BLOCKY

    @property
    def lossy_copy(self) -> bool:
        """Did the images go through JPEG while the originals did not?"""
        lossless = self.name in VTAB_SIZES and VTAB_SIZES[self.name].lossless
        return lossless and (self.jpeg_files or self.jpeg_marks)

    def formats_text(self) -> str:
        return ", ".join(f"{count:,} {kind}" for kind, count in self.formats.most_common())


def kind_of(image: Image.Image, path: Path, content: bytes | None = None) -> str:
    """Pillow's name of a file's format, with lossy WebP told from lossless; ``content`` is the file's, if at hand."""
    if image.format == "WEBP" and b"VP8L" not in (content or path.read_bytes())[:4096]:
        return "lossy WEBP"
    return image.format or "unknown"


def blockiness(images: Iterable[np.ndarray]) -> float:
    """How much stronger steps between pixels are at multiples of 8 than beside them; about 1 unless JPEG left its mark.

    They are compared with the steps one pixel before and after alone, not with all others: things that lie in the
    middle of their pictures have their edges there, some of them by chance near multiples of 8. ``images``: uint8
    (height, width, 3), in the size that they were compressed in. Those of two values (dSprites) are left out: JPEG
    leaves no image so, and their few steps lie where they lie. NaN without images of 16 pixels.
    """
    at_edges, beside = [], []
    for image in images:
        if np.isin(image, (image.min(), image.max())).all():
            continue
        grey = image.astype(np.float64).mean(axis=2)
        for along in (grey, grey.T):
            if along.shape[1] < 16:
                continue
            steps = np.abs(np.diff(along, axis=1)).mean(axis=0)  # between columns i and i + 1
            edge = np.arange(7, len(steps) - 1, 8)
            at_edges.append(steps[edge].mean())
            beside.append((steps[edge - 1].mean() + steps[edge + 1].mean()) / 2)
    return float(np.mean(at_edges) / max(float(np.mean(beside)), 1e-9)) if at_edges else math.nan
