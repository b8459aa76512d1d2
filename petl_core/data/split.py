"""Which pictures are learned from, chosen with and tested on: in proportion of the classes, whole groups on one side.

Pictures that are equal, or nearly, would make a test easier than it is; so do pictures of one patient or place. They
form groups, and a group goes to one side whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from petl_core.data.scan import COLOURS, Scan
from petl_core.utils import UserError

SPLIT_SEED = 0
NEAR = 4  # bits of 64 in which the hashes of near duplicates differ at most
NEAR_COLOURS = 16.0  # of 255, by which their small pictures differ on average at most
FLAT = 1.5  # of 255, the deviation of a small picture's colours below which its hash says nothing
NEIGHBOURS = 256  # with which each picture is compared, among those whose hashes share an eighth of their bits
CROWD = 0.2  # of all pictures: so many do not look alike because they are copies


def split_sizes(total: int) -> tuple[int, int, int]:
    """How many of ``total`` images go to train, val and test.

    Below 2,000, half are for testing, and the other half is parted four to one. With more, 1,000 or a tenth are for
    testing; of the others a fifth, at most 1,000 or a tenth of all, is for choosing.
    """
    if total < 2000:
        train = max(1, round(total * 0.4))
        val = max(1, round(total * 0.1))
        return train, val, total - train - val
    most = max(1000, total // 10)
    val = min((total - most) // 5, most)
    return total - most - val, val, most


def in_proportion(labels: np.ndarray, seed: int = SPLIT_SEED) -> np.ndarray:
    """All sample indices in an order of which every beginning has its share of every class to within one.

    Each class's samples are shuffled and spread evenly over [0, 1); the order is that of their places."""
    generator = np.random.Generator(np.random.PCG64(seed))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(generator.random(len(members)), kind="stable")]
        place[order] = (np.arange(len(members)) + generator.random()) / len(members)
    return np.argsort(place, kind="stable")


def stratified(labels: np.ndarray, seed: int = SPLIT_SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, val and test with each class shared out in proportion; the same for the same labels."""
    train, val, _ = split_sizes(len(labels))
    parts = np.split(in_proportion(labels, seed), [train, train + val])
    return tuple(np.sort(part) for part in parts)  # type: ignore[return-value]


def parted(labels: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: int = SPLIT_SEED) -> np.ndarray:
    """The part (n,) of each sample, groups whole: 0, 1, ... with about ``shares`` of each class.

    Groups are dealt out by size, equal ones by lot. A group goes where a class of it has nothing yet, to the first such
    part in order, so that each class is in part 0 before it is in another; then where most is missing, of
    that of its classes of which least is.
    """
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    members: dict[int, list[int]] = {}
    for i in shuffled.tolist():
        members.setdefault(int(groups[i]), []).append(i)
    sizes = np.bincount(labels)
    missing = [[share] * len(sizes) for share in shares]  # of each class in each part, as a share of the class
    empty = [set(np.unique(labels).tolist()) for _ in shares]
    part = np.empty(len(labels), dtype=np.int64)
    for group in sorted(members.values(), key=len, reverse=True):
        counts = Counter(labels[group].tolist())
        first = [number for number, lacks in enumerate(empty) if not lacks.isdisjoint(counts)]
        wanted = [min(lacks[label] for label in counts) for lacks in missing]
        chosen = first[0] if first else int(np.argmax(wanted))
        part[group] = chosen
        empty[chosen] -= set(counts)
        for label, count in counts.items():
            missing[chosen][label] -= count / sizes[label]
    return part


@dataclass(frozen=True)
class Alike:
    """Groups (n,) of equal pictures and of nearly equal ones (equal ones among these). ``crowd``: how many look so much
    alike that only the equal ones among them are kept together."""

    equal: np.ndarray
    near: np.ndarray
    crowd: int


def alike(scan: Scan, rows: np.ndarray) -> Alike:
    """Which of the pictures ``rows`` (n,) of a scan are the same, or nearly."""
    _, equal = np.unique(scan["pixels"][rows], return_inverse=True)
    colours, hashes = scan["colours"][rows].astype(np.int16), scan["hash"][rows]
    brightness = colours.mean(axis=1)
    flat = colours.reshape(len(rows), COLOURS * COLOURS, 3).std(axis=1).max(axis=1, initial=0) < FLAT
    near = equal
    for start in range(0, 64, 13):  # hashes that differ in four bits agree on one of five pieces
        key = (hashes >> np.uint64(start)) & np.uint64(2**13 - 1)
        order = np.lexsort((brightness, key))
        for step in range(1, NEIGHBOURS):
            one, two = order[:-step], order[step:]
            same = key[one] == key[two]
            if not same.any():
                break
            candidates = (
                same
                & ~flat[one]
                & ~flat[two]
                & (near[one] != near[two])
                & (np.bitwise_count(hashes[one] ^ hashes[two]) <= NEAR)
            )
            one, two = one[candidates], two[candidates]
            close = np.abs(colours[one] - colours[two]).mean(axis=1) <= NEAR_COLOURS
            if close.any():
                near = joined(near, np.stack([one[close], two[close]], axis=1))
    counts = np.bincount(near)[near] if len(near) else near
    crowded = (counts > CROWD * len(rows)) & (counts > 10)
    near = np.where(crowded, near.max(initial=0) + 1 + equal, near)
    return Alike(equal, np.unique(near, return_inverse=True)[1], int(crowded.sum()))


def joined(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Groups (n,) numbered from 0, those joined that the ``pairs`` (m, 2) of samples connect."""
    n = len(groups)
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    links = np.concatenate([np.stack([np.arange(n), first[number]], axis=1), pairs])
    graph = coo_array((np.ones(len(links), dtype=bool), (links[:, 0], links[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def apart(labels: np.ndarray, groups: np.ndarray, parts: int) -> np.ndarray:
    """The groups, those of a class dissolved that has fewer groups than there are parts: each must have some of it."""
    groups = groups.copy()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(np.unique(groups[members])) < parts:
            groups[members] = groups.max() + 1 + np.arange(len(members))
    return groups


def by_pattern(pattern: str, ids: Sequence[str]) -> np.ndarray:
    """Groups (n,) of files whose names share what the regular expression finds in them (its first bracket, if it has
    one). UserError where it is no expression, or finds nothing."""
    try:
        found = [re.search(pattern, name) for name in ids]
    except re.error as error:
        raise UserError(
            f"--group got {pattern!r}, which is no regular expression ({error}); such as 'patient\\d+'"
        ) from error
    keys = [f"found {hit[1] if hit.re.groups else hit[0]}" if hit else f"name {name}"
            for hit, name in zip(found, ids, strict=True)]  # fmt: skip
    if not any(found):
        raise UserError(f"--group got {pattern!r}, which is found in no name, such as {ids[0]!r}")
    return np.unique(keys, return_inverse=True)[1]
