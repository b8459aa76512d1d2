"""The claims about what methods predict, checked on our records: C6, C7, C8a and C8b.

Methods are compared where their accuracies are alike: pairs whose cells on a task differ by at most two points. Each
pair of runs has different seeds, as two runs of one method have, so that the method is all that is compared.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from petl_core.study import predictions
from petl_core.study.predictions import Predictions, softmax
from petl_core.utils import UserError
from petl_guide import runs as select
from petl_guide.claims.study import Study
from petl_guide.mistakes import agreement, confidence, ensembles
from petl_guide.results import Results
from petl_guide.verdict import FEWEST_TASKS, Control, Estimate, Evidence, over

ALIKE = 2.0  # points, the most by which two methods of a pair differ on a task
FEWEST_PAIRS = 3  # on a task that counts
SHARE = 0.5  # of the images, of highest confidence, in the sets of C7
BEYOND = 3.0  # deviations above chance, by which the sets of two seeds should overlap
LOTS = 20
BY_LOT = 0.5  # points, or per cent: the most that is left of a difference between methods whose names mean nothing
TOGETHER = 3  # methods in an ensemble, and seeds
WEAKER = -3.0  # points: an ensemble of weaker members than these compares something else


def _loaded(study: Study) -> Iterator[Predictions]:
    """The predictions of the PEFT methods' runs, task by task, where logits are kept; a diverged run predicts nothing,
    and leaves its method out. ``UserError`` if there are none."""
    found = False
    for _, runs in select.peft_rows(study.runs).groupby("task"):
        if all(study.results.records.get(digest)["predictions"] for digest in runs["digest"]):
            failed = set(runs.loc[runs["diverged"].astype(bool), "method"])
            found = True
            yield _stacked(study, runs[~runs["method"].isin(failed)])
    if not found:
        raise UserError("no run of PEFT methods has kept its predictions; run the part 'tuned' again")


def _stacked(study: Study, runs: pd.DataFrame) -> Predictions:
    """The predictions of these rows; a record may stand for several of them."""
    once = predictions.load(study.results.records, runs.drop_duplicates("digest"))
    place = {digest: number for number, digest in enumerate(once.runs["digest"])}
    rows = [place[digest] for digest in runs["digest"]]
    named = runs[["method", "seed", "digest"]].reset_index(drop=True)
    return Predictions(once.task, named, once.logits[rows], once.labels, once.ids)


def _alike(cells: pd.Series) -> list[tuple[str, str]]:
    """The pairs of methods whose accuracies on a task are alike."""
    return [(a, b) for a, b in itertools.combinations(cells.index, 2) if abs(cells[a] - cells[b]) <= ALIKE]


@dataclass(frozen=True)
class Counted:
    """A task with pairs enough: its predictions, the pairs, and, ``LOTS`` times, the names (R,) of its runs' methods
    drawn by lot within each seed among the methods of the pairs."""

    found: Predictions
    pairs: list[tuple[str, str]]
    lots: list[np.ndarray]


def _counted(study: Study) -> Iterator[Counted]:
    random = np.random.default_rng(0)
    for found in _loaded(study):
        names, seeds = (found.runs[column].to_numpy() for column in ("method", "seed"))
        pairs = _alike(study.scores.loc[found.task, [name for name, n in Counter(names).items() if n > 1]])
        if len(pairs) < FEWEST_PAIRS:
            continue
        members, lots = {name for pair in pairs for name in pair}, [names.copy() for _ in range(LOTS)]
        for lot, seed in itertools.product(lots, sorted(set(seeds))):
            mine = np.flatnonzero((seeds == seed) & np.isin(names, list(members)))
            lot[mine] = random.permutation(names[mine])
        yield Counted(found, pairs, lots)


@dataclass(frozen=True)
class Apart:
    """On one task, what pairs of runs show: of two methods, of two seeds of one, and their difference; and the same
    difference with the methods' names drawn by lot within each seed."""

    methods: float
    seeds: float
    by_lot: float

    @property
    def difference(self) -> float:
        return self.methods - self.seeds


def _compared(counted: Counted, measure: np.ndarray) -> Apart:
    """``measure`` (R, R) of pairs of runs, averaged over these pairs of methods and over different seeds."""
    pairs = counted.pairs
    names, seeds = (counted.found.runs[column].to_numpy() for column in ("method", "seed"))
    members = sorted({name for pair in pairs for name in pair})

    def means(named: np.ndarray) -> tuple[float, float]:
        rows = {name: np.flatnonzero(named == name) for name in members}

        def mean(one: str, two: str) -> float:
            block = measure[np.ix_(rows[one], rows[two])]
            return float(block[seeds[rows[one]][:, None] != seeds[rows[two]][None, :]].mean())

        between = [mean(one, two) for one, two in pairs]
        return float(np.mean(between)), float(np.mean([mean(name, name) for name in members]))

    between, within = means(names)
    return Apart(between, within, float(np.mean([np.subtract(*means(lot)) for lot in counted.lots])))


def _by_lot(parts: list[Apart]) -> tuple[Control, ...]:
    """What is left of the difference between methods whose names mean nothing; none without a task that counts."""
    left = abs(_mean(part.by_lot for part in parts))
    return (Control("names of methods drawn by lot", left, BY_LOT, left < BY_LOT),) if parts else ()


def disagreement(results: Results) -> Evidence:
    """C6: disagreement of two methods minus that of two seeds of one method."""
    study = Study(results)
    parts = {one.found.task: _compared(one, 100 - agreement.agreement(one.found.classes)) for one in _counted(study)}
    same = Control("tasks with other labels in some file", 0, 0, passes=True)  # ``predictions.load`` refuses them
    effects = {task: part.difference for task, part in parts.items()}
    told = f"two methods disagree on {_mean(part.methods for part in parts.values()):.1f} % of the images, two seeds "
    told += f"on {_mean(part.seeds for part in parts.values()):.1f} %"
    controls = (same, *_by_lot(list(parts.values())))
    return Evidence(
        effects, "points of disagreement", "better", 1.0, controls=controls, estimate=_over(effects), told=told
    )


def _mean(values: Iterator[float]) -> float:
    every = list(values)
    return float(np.mean(every)) if every else float("nan")


def _over(effects: dict[str, float]) -> Estimate:
    """The mean over tasks; without a value where no task counts."""
    return over(effects) if effects else Estimate()


def overlap(results: Results) -> Evidence:
    """C7: of the images that a run is sure of and right about, what two seeds share minus what two methods share."""
    parts, chances = {}, []
    for one in _counted(Study(results)):
        shared, chance, z = _overlaps(one.found)
        if _compared(one, z).seeds > BEYOND:
            parts[one.found.task] = _compared(one, shared)
            chances.append(_compared(one, chance).methods)
    effects = {task: -part.difference for task, part in parts.items()}
    enough = Control(
        f"tasks where seeds share more than chance (z > {BEYOND:g})",
        len(parts),
        FEWEST_TASKS,
        len(parts) >= FEWEST_TASKS,
    )
    told = f"of the set, two seeds share {_mean(part.seeds for part in parts.values()):.1f} %, two methods "
    told += f"{_mean(part.methods for part in parts.values()):.1f} %, unrelated sets {_mean(iter(chances)):.1f} %"
    controls = (enough, *_by_lot(list(parts.values())))
    return Evidence(effects, "points of the set", "better", 2.0, controls=controls, estimate=_over(effects), told=told)


def _overlaps(found: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R, R) each: per cent of the smaller set that is shared, what unrelated sets would share, deviations above."""
    sets = confidence.confident_correct(found, max(1, round(SHARE * len(found.labels))))
    runs, images = sets.shape
    shared, chance, z = (np.zeros((runs, runs)) for _ in range(3))
    for i, j in itertools.product(range(runs), repeat=2):
        sizes = int(sets[i].sum()), int(sets[j].sum())
        met = confidence.overlap_of_counts(images, sizes, int((sets[i] & sets[j]).sum()))
        scale = 100 / max(met.smaller, 1)
        shared[i, j], chance[i, j], z[i, j] = scale * met.shared, scale * met.chance, met.z
    return shared, chance, z


@dataclass(frozen=True)
class Ensembles:
    """On one task, accuracies (%): of ensembles of the best methods, of seeds of the first, and of their members."""

    methods: float
    seeds: float
    first: float
    members: float


def _ensembles(study: Study) -> dict[str, Ensembles]:
    """By task, of the methods of highest validation accuracy, ties to the smaller; an ensemble has one seed."""
    found = {}
    for part in _loaded(study):
        cells = study.choices.loc[part.task].loc[list(dict.fromkeys(part.runs["method"]))]
        best = list(cells.sort_values(["val", "params"], ascending=[False, True]).index[:TOGETHER])
        if len(best) < TOGETHER:
            raise UserError(f"an ensemble has {TOGETHER} PEFT methods; {part.task} has {len(best)}")
        three = part.of(best, study.seeds[:TOGETHER])
        right = ensembles.of_methods(three)
        probabilities, seeds, names = softmax(three.logits), three.runs["seed"].to_numpy(), three.runs["method"]
        members = [seeds == seed for seed in sorted(set(seeds))]
        together = [ensembles.accuracy(probabilities[mine].mean(axis=0), three.labels) for mine in members]
        first = probabilities[(names == best[0]).to_numpy()]
        of_seeds = ensembles.accuracy(first.mean(axis=0), three.labels)
        found[part.task] = Ensembles(float(np.mean(together)), of_seeds, float(right[best[0]]), float(right.mean()))
    return found


def ensembles_single(results: Results) -> Evidence:
    """C8a: an ensemble of three methods minus the method that validation puts first."""
    study = Study(results)
    effects = {task: one.methods - one.first for task, one in _ensembles(study).items()}
    variances = {task: study.variances[task] for task in effects}
    return Evidence(effects, "points above the first method", "better", 0.5, variances, told=study.noise_told)


def ensembles_seeds(results: Results) -> Evidence:
    """C8b: the same ensembles minus one of three seeds of the first method."""
    study = Study(results)
    found = _ensembles(study)
    effects = {task: one.methods - one.seeds for task, one in found.items()}
    weaker = _mean(one.members - one.first for one in found.values())
    fair = Control("members' accuracy, less the first method's", weaker, WEAKER, weaker >= WEAKER)
    variances = {task: study.variances[task] for task in effects}
    unit = "points above an ensemble of seeds"
    return Evidence(effects, unit, "better", 0.5, variances, controls=(fair,), told=study.noise_told)
