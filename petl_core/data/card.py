"""The data card: what a look at a folder says before anything is trained. Facts always, findings where there are any.

Nothing is written into the folder. ``look`` gives a ``Card``, whose ``text`` is what is printed and what stands in the
report of a comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from petl_core.data.decode import SHORT_SIDE
from petl_core.data.findings import findings
from petl_core.data.layout import Finding, shown
from petl_core.data.survey import Survey, survey

LISTED = 5  # files of a finding, and largest and smallest classes, unless all are asked for
ENDS = 2.0  # proportions beyond which another way to a square is offered
MODES = {
    **dict.fromkeys(("L", "1"), "grey"),
    **dict.fromkeys(("P", "PA"), "palette"),
    **dict.fromkeys(("RGBA", "LA", "RGBa", "La"), "with alpha"),
    "F": "float",
}


@dataclass(frozen=True)
class Card:
    """What a look found. ``counts``: pictures of each class in train, val and test (C, 3); ``facts``: lines of text;
    ``leaked``: names of test pictures that are in train or val too, or nearly; ``refused``: why nothing can be trained.
    """

    name: str
    pictures: int
    classes: tuple[str, ...]
    counts: np.ndarray
    facts: tuple[str, ...]
    findings: tuple[Finding, ...]
    leaked: tuple[str, ...]
    refused: tuple[str, ...]

    def text(self, *, everything: bool = False) -> str:
        """The card as lines; with ``everything`` each finding with all of its files."""
        lines = list(self.facts)
        for found in self.findings:
            files = found.files if everything else found.files[:LISTED]
            more = len(found.files) - len(files)
            tail = f": {', '.join(files)}" if files else ""
            lines.append(f"{'!' if found.serious else ' '} {found.text}{tail}{f' and {more} more' if more else ''}")
        return "\n".join([*lines, *(f"! no comparison is possible: {why}" for why in self.refused)])

    __str__ = text


def look(place: str, size: int) -> Card:
    """The card of a folder or list (with the options of a task's name behind it) for squares of ``size`` pixels.

    UserError where there are no pictures with classes at all."""
    return card_of(survey(place), size)


def card_of(found: Survey, size: int) -> Card:
    """The card of a survey."""
    said, rows_leaked = findings(found, size)
    labels, classes = found.layout.labels, found.layout.classes
    counts = np.zeros((len(classes), 3), dtype=np.int64)
    for number, rows in enumerate(found.splits.values()):
        np.add.at(counts[:, number], labels[rows], 1)
    facts = [_what(found, size), *_split(found, counts), *_files(found), *_square(found, size)]
    names = found.names
    leaked = tuple(names[row] for row in rows_leaked)
    listed = sorted(said, key=lambda finding: not finding.serious)
    name = shown(found.root.resolve().name)
    return Card(name, len(labels), classes, counts, tuple(facts), tuple(listed), leaked, tuple(found.refused))


def _what(found: Survey, size: int) -> str:
    pictures, classes = len(found.layout.labels), found.layout.classes
    used = {int(row) for row in found.layout.rows}
    held = sum(file.size for row, file in enumerate(found.files) if row in used)
    size_here = megabytes(3 * size * size * pictures)
    return (
        f"{shown(found.root.resolve().name)}: {pictures:,} pictures in {len(classes):,} classes; {found.layout.text}; "
        f"{megabytes(held)}; {found.scan.seconds:.1f} s to look at, {size_here} at {size} px"
    )


def _split(found: Survey, counts: np.ndarray) -> Iterable[str]:
    """The split with its rule, and the classes with their numbers in train, val and test."""
    classes, parts = found.layout.classes, found.layout.parts
    if found.splits:
        rule = "by class, what looks alike on one side, the same each time"
        if "train" in parts:
            rule = "as given" if "val" in parts else "test as given; val by class from train"
        train, val, test = counts.sum(axis=0).tolist()
        yield f"split:   train {train:,}, val {val:,}, test {test:,} ({rule})"
    totals = np.bincount(found.layout.labels, minlength=len(classes))
    order = np.argsort(-totals, kind="stable").tolist()
    few = order if len(order) <= 2 * LISTED else [*order[:LISTED], -1, *order[-LISTED:]]
    each = [_of_class(classes[i], totals[i], counts[i]) if i >= 0 else "..." for i in few]
    ratio = f"; {totals.max() / max(1, totals.min()):.3g}:1" if len(totals) > 1 else ""
    most = int(counts[:, :2].sum(axis=1).argmax()) if found.splits else order[0] if order else -1
    tested = counts[:, 2] if found.splits else totals
    always = f"; always answering {classes[most]}: {100 * tested[most] / max(1, tested.sum()):.0f} %" if order else ""
    yield f"classes: {', '.join(each)}{ratio}{always}"


def _of_class(name: str, total: int, counts: np.ndarray) -> str:
    return f"{name} {total:,}" + (f" ({' + '.join(map(str, counts.tolist()))})" if counts.any() else "")


def _files(found: Survey) -> Iterable[str]:
    """Formats by content, modes, sizes and proportions."""
    width, height = found.of("width"), found.of("height")
    if not len(width):
        return
    modes = ["16-bit" if mode.startswith("I") else MODES.get(mode, mode) for mode in found.of("mode").tolist()]
    order = np.argsort(width.astype(np.int64) * height)
    sizes = [f"{width[order[at]]} x {height[order[at]]}" for at in (0, len(order) // 2, len(order) - 1)]
    proportions = " to ".join(f"{value:.2f}" for value in np.quantile(width / height, [0.05, 0.5, 0.95]))
    yield (
        f"files:   {_tally(found.of('format').tolist())}; {_tally(modes)}; {sizes[0]} to {sizes[2]}, median {sizes[1]};"
        f" width to height {proportions} (5 %, median, 95 %)"
    )


def _square(found: Survey, size: int) -> Iterable[str]:
    """How squares are made of the pictures, and what that does to them."""
    width, height = found.of("width").astype(float), found.of("height").astype(float)
    if not len(width):
        return
    short, longest = np.minimum(width, height), np.maximum(width, height)
    prepare = found.preparation(size)
    enlarged = 100 * (short < size).mean()
    long = longest / short
    if prepare.resize == "crop":
        cut = 100 * (1 - (size / round(size * SHORT_SIDE)) ** 2 / long)
        rule = f"short side to {round(size * SHORT_SIDE)} px, the middle {size} x {size} cut out"
        does = f"{np.median(cut):.0f} % of a picture's area are cut off (median), {cut.max():.0f} % at worst"
    elif prepare.resize == "pad":
        rule, does = f"long side to {size} px, the rest grey", f"{100 * (1 - 1 / long.max()):.0f} % grey at worst"
    else:
        rule, does = f"squeezed to {size} x {size}", f"proportions change by up to {long.max():.1f}:1"
    other = "pad" if prepare.resize != "pad" else "crop"
    offer = ""
    if long.max() > ENDS:
        offer = f"; {int((long > ENDS).sum()):,} beyond {ENDS:.0f}:1, another way: --resize {other}"
    yield f"squares: {prepare.resize}: {rule}; {enlarged:.0f} % are enlarged; {does}{offer}"
    for kind, ends in (("whole numbers", prepare.integers), ("floats", prepare.floats)):
        if ends is not None:
            yield f"deep:    {kind} from {ends[0]:g} to {ends[1]:g} become 0 to 255, in all pictures alike"


def megabytes(count: float) -> str:
    """Bytes as text."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _tally(values: Sequence[str]) -> str:
    return ", ".join(f"{value} {count:,}" for value, count in Counter(values).most_common())
