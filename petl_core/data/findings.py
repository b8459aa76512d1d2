"""What there is to know about a set of pictures before it is learned from: one function for each kind of finding."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import PurePath

import numpy as np

from petl_core.data.layout import Finding
from petl_core.data.survey import Survey

FULL_RANGE = 65535  # of 16 bits
TINY, HUGE = 8, 100_000_000  # pixels along the short side; pixels in all
UNEVEN, RARE = 10, 5  # largest to smallest class; pictures of a class in test
MOST_OF_ONE = 50  # pictures of one thing, as their names have it; more are of a class
SECONDS = 3.0  # between exposures of one series
SPLIT_NAMES = {"train800": "train", "val200": "val", "test": "test"}
ORDER = ("train", "val", "test", "all")
SAME, NEARLY = "the same", "nearly the same"

Pairs = list[tuple[int, int]]  # rows of two pictures that are alike


def findings(found: Survey, size: int) -> tuple[list[Finding], list[int]]:
    """All that is to be said of a survey, for squares of ``size`` pixels; and the rows of test pictures that are in
    train or val too, or nearly."""
    split = found.layout.parts.astype("<U5").copy()  # where there can be no split, those that were given
    for name, rows in found.splits.items():
        split[rows] = SPLIT_NAMES[name]
    copies, leaked = _copies(found, split)
    kinds = (
        *(_not_used(found), copies, _names(found, split), _series(found, split)),
        *(_classes(found, split), _content(found), _sizes(found, size), found.layout.findings),
    )
    return [finding for kind in kinds for finding in kind], leaked


def _not_used(found: Survey) -> Iterable[Finding]:
    """Unreadable pictures, and what else in the folder is left out and why."""
    if found.unreadable:
        files = tuple(f"{name} ({why})" for name, why in found.unreadable)
        yield Finding("unreadable", len(files), f"{len(files)} unreadable, left out", files)
    if found.left_out:
        reasons = Counter(why for _, why in found.left_out)
        what = "; ".join(f"{count:,} {why}" for why, count in reasons.most_common())
        files = tuple(f"{name} ({why})" for name, why in found.left_out)
        wanted = any("needs the package" in why or "beside" in why for why in reasons)
        yield Finding("left out", len(files), f"{len(files):,} left out ({what})", files, serious=wanted)


def _copies(found: Survey, split: np.ndarray) -> tuple[list[Finding], list[int]]:
    """The same pictures, and nearly the same: across splits, in two classes, or on one side."""
    told: list[Finding] = []
    leaked: dict[int, str] = {}
    across: list[str] = []
    for kind, groups in ((SAME, found.alike.equal), (NEARLY, found.alike.near)):
        apart: Pairs = []
        classes: Pairs = []
        together: Pairs = []
        for members in several(groups):
            if kind == NEARLY and len(np.unique(found.alike.equal[members])) == 1:
                continue
            first, *others = sorted(members.tolist(), key=lambda row: (ORDER.index(split[row]), row))
            elsewhere = [row for row in others if split[row] != split[first]]
            apart += [(row, first) for row in elsewhere]
            leaked |= {row: kind for row in elsewhere if split[row] == "test" and row not in leaked}
            classes += [(first, row) for row in others if found.layout.labels[row] != found.layout.labels[first]][:1]
            together += [] if elsewhere else [(row, first) for row in others]
        across += _pairs(found, kind, apart)
        told += _alike(found, kind, classes, together)
    if across:
        told.insert(0, _across(across, leaked, int((split == "test").sum())))
    if found.alike.crowd:
        text = f"{found.alike.crowd:,} pictures look so much alike that only equal ones are kept on one side"
        told.append(Finding("all look alike", found.alike.crowd, text, serious=False))
    return told, sorted(leaked)


def _across(files: list[str], leaked: dict[int, str], tested: int) -> Finding:
    """What is said of pictures on two sides."""
    text = f"{len(files):,} pictures of val are also in train, or nearly"
    if leaked:
        same = sum(kind == SAME for kind in leaked.values())
        text = (
            f"{len(leaked):,} test pictures are also in train or val ({same} the same, {len(leaked) - same} nearly): "
            f"{tested:,} test pictures, {tested - len(leaked):,} without them"
        )
    return Finding("copies across splits", len(leaked) or len(files), text, tuple(files))


def _alike(found: Survey, kind: str, classes: Pairs, together: Pairs) -> Iterable[Finding]:
    """What is said of copies in two classes, and of those on one side."""
    if classes:
        text = f"{kind} picture in two classes, {len(classes):,}"
        yield Finding(f"{kind} in two classes", len(classes), text, _pairs(found, kind, classes), serious=kind == SAME)
    if together:
        what = "are copies of others" if kind == SAME else "nearly repeat others"
        text = f"{len(together):,} pictures {what}, kept on one side"
        yield Finding(f"{kind} on one side", len(together), text, _pairs(found, kind, together), serious=False)


def _pairs(found: Survey, kind: str, rows: Pairs) -> tuple[str, ...]:
    names, sign = found.names if rows else [], "=" if kind == SAME else "~"
    return tuple(f"{names[one]} {sign} {names[two]}" for one, two in rows)


def several(groups: np.ndarray) -> list[np.ndarray]:
    """The rows of each group that has more than one."""
    order = np.argsort(groups, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [piece for piece in pieces if len(piece) > 1]


def _names(found: Survey, split: np.ndarray) -> Iterable[Finding]:
    """Names of one stem on both sides: perhaps pictures of one thing."""
    stems = [stem(name) for name in found.names]
    counts = Counter(filter(None, stems))
    groups = {name for name, count in counts.items() if 1 < count <= MOST_OF_ONE}
    if found.options.group or len(groups) < 3 or 2 * sum(counts[name] for name in groups) < len(stems):
        return
    sides: dict[str, set[str]] = defaultdict(set)
    for name, side in zip(stems, split, strict=True):
        sides[name].add(side)
    both = sorted(name for name in groups if len(sides[name]) > 1)
    if both:
        pattern = re.sub(r"\d+", lambda _: r"\d+", re.escape(both[0]))
        text = f"{len(both)} of {len(groups)} groups of names are on both sides; if each is one thing, keep it together"
        yield Finding("suspected groups", len(both), f'{text} with --group "{pattern}"', tuple(both))


def stem(name: str) -> str:
    """What a file's name begins with, if there is a number in it: "patient01" of patient01_1.png; "" for others.
    Augmented copies of one picture (cat_jpg.rf.0a1b.jpg) have its name."""
    base = PurePath(name).stem
    whole, marked, _ = base.partition(".rf.")
    if marked:
        return whole
    found = re.fullmatch(r"(.*\d.*?)[\W_]+[a-zA-Z]{0,6}\d+[a-zA-Z]?", base)
    return found[1] if found else ""


def _series(found: Survey, split: np.ndarray) -> Iterable[Finding]:
    """Exposures seconds apart on both sides."""
    taken = found.of("taken")
    order = np.argsort(taken)
    order = order[np.isfinite(taken[order])]
    close = (np.diff(taken[order]) <= SECONDS) & (split[order][1:] != split[order][:-1])
    if close.any() and not found.options.group:
        names = found.names
        files = tuple(f"{names[order[i]]} and {names[order[i + 1]]}" for i in np.flatnonzero(close))
        text = f"{len(files)} pairs of pictures, taken seconds apart, are on both sides"
        yield Finding("suspected series", len(files), text, files)


def _classes(found: Survey, split: np.ndarray) -> Iterable[Finding]:
    """Classes that are never tested or chosen with, rare ones, uneven ones."""
    classes, labels = found.layout.classes, found.layout.labels
    if not found.splits:
        return
    for part, word in (("val", "never chosen with"), ("test", "never tested")):
        lacking = sorted(set(range(len(classes))) - set(labels[split == part].tolist()))
        if lacking:
            text = f"{len(lacking)} classes have no picture in {part}: {word}"
            yield Finding(f"classes {word}", len(lacking), text, tuple(classes[i] for i in lacking))
    totals = np.bincount(labels, minlength=len(classes))
    if totals.max() >= UNEVEN * totals.min():
        ratio, ends = totals.max() / totals.min(), (classes[totals.argmax()], classes[totals.argmin()])
        text = f"uneven classes, {ratio:.0f}:1 ({ends[0]} to {ends[1]}): see balanced accuracy and the recall of each"
        yield Finding("uneven classes", int(ratio), text)
    tested = np.bincount(labels[split == "test"], minlength=len(classes))
    if rare := [f"{classes[i]} {tested[i]}" for i in np.flatnonzero((tested > 0) & (tested < RARE))]:
        text = f"{len(rare)} classes have fewer than {RARE} test pictures, so that their recall says little"
        yield Finding("rare classes", len(rare), text, tuple(rare), serious=False)


def _content(found: Survey) -> Iterable[Finding]:
    """What files hold besides one upright picture of 8 bits."""
    mode = found.of("mode")
    dim = np.char.startswith(mode, "I") & (found.of("high") < FULL_RANGE / 2)
    half_clear, cut, more = found.of("half_clear"), found.of("cut_to_8"), found.of("frames") > 1
    unclear = "partly transparent nearly everywhere: is the fourth band something else?"
    yield from _these(found, "turned", found.of("turned"), "turned upright by their EXIF tag")
    yield from _these(found, "frames", more, "with more than one frame or page, of which the first is used")
    yield from _these(found, "fourth band", half_clear, unclear, serious=True)
    yield from _these(found, "16-bit colour", cut, "with 16-bit colours, cut to their upper 8 bits", serious=True)
    yield from _these(found, "deep", dim, "16-bit below full range, scaled by one factor for the set")
    yield from _these(found, "float", mode == "F", "of floats, scaled from one range for the set")


def _sizes(found: Survey, size: int) -> Iterable[Finding]:
    """Pictures that are small, tiny or huge."""
    width, height = found.of("width").astype(np.int64), found.of("height").astype(np.int64)
    short = np.minimum(width, height)
    sized = [f"{w} x {h}" for w, h in zip(width.tolist(), height.tolist(), strict=True)]
    small, huge = (short >= TINY) & (short < size / 2), width * height > HUGE
    yield from _these(found, "tiny", short < TINY, f"smaller than {TINY} pixels", sized, serious=True)
    yield from _these(found, "small", small, f"smaller than half of the {size} pixels asked for", sized)
    yield from _these(found, "huge", huge, f"above {HUGE / 1e6:.0f} megapixels, read at a smaller scale", sized)


def _these(
    found: Survey, kind: str, which: np.ndarray, text: str, about: list[str] | None = None, *, serious: bool = False
) -> Iterable[Finding]:
    """A finding about some pictures, if there are any."""
    rows = np.flatnonzero(which).tolist()
    if rows:
        names = found.names
        files = tuple(f"{names[row]} ({about[row]})" if about else names[row] for row in rows)
        yield Finding(kind, len(rows), f"{len(rows):,} {text}", files, serious=serious)
