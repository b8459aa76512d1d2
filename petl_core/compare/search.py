"""A comparison while it is made: first look, trials, longer runs, final runs, the models to keep, within a time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from petl_core.compare import contest
from petl_core.compare.contest import Entrant
from petl_core.compare.report import Comparison, compared
from petl_core.data.task import Task
from petl_core.study.budget import BATCH, clock, measure
from petl_core.study.executor import Planned
from petl_core.study.protocol import tried_of
from petl_core.study.records import Records, RunSpec
from petl_core.study.runner import Runner
from petl_core.study.search import Setting, step
from petl_core.study.time import Speed
from petl_core.training.train import Recipe
from petl_core.utils import UserError, write_atomic

TRIAL, FINAL = "trial", "compare"  # variants of the records
MOST = 1.05  # of the budget, never more
USED = 1.0  # of the budget: what is begun is expected to end by then
FULL = 0.85  # of the budget is planned for when the length of runs is chosen
SEEDS, MOST_SEEDS = 3, 10
LONGEST = 4  # times the first length, where time is left


@dataclass
class Wish:
    """What the user fixed instead of leaving it to the time; None: not fixed."""

    trials: int | None = None
    epochs: int | None = None
    seeds: int | None = None


@dataclass
class Search:
    """One comparison while it is made. ``name`` and ``size``: how worker processes load the task again."""

    task: Task
    name: str
    size: int | None
    methods: tuple[str, ...]
    backbone: str
    weights: str
    records: Records
    device: str
    workers: int
    budget: float
    wish: Wish
    progress: bool
    started: float
    temporary: Any = None  # keeps a temporary folder alive
    spent: float = 0.0  # seconds of earlier calls that were stopped
    epochs: int = 0
    speeds: dict[str, Speed] = field(default_factory=dict)
    entrants: list[Entrant] = field(default_factory=list)
    pace: dict[str, list[float]] = field(default_factory=dict)  # real over timed seconds of each method's runs

    @property
    def sizes(self) -> dict[str, int]:
        return {split: len(index) for split, index in self.task.splits.items()}

    # ---- time

    def gone(self) -> float:
        """Seconds of the budget that are over."""
        return self.spent + time.monotonic() - self.started

    def seconds(self, specs: Sequence[RunSpec]) -> float:
        """Wall-clock seconds of these runs, done together, by the pace so far."""
        each = [self.alone(spec) for spec in specs]
        return max([sum(each) / self.workers, *each]) if each else 0.0

    def alone(self, spec: RunSpec) -> float:
        """Seconds of one run: by the timing of its method, and how much longer its runs have taken so far."""
        timed = self.timed(spec)
        runs = self.pace.get(spec.method) or [one for its in self.pace.values() for one in its]
        if not runs:
            return timed * (contest.SHARING if self.workers > 1 else 1.0)
        return timed * statistics.median(runs)

    def timed(self, spec: RunSpec) -> float:
        """Seconds of one run by the timing of its method, before any was made."""
        held = self.sizes["val200" if spec.stage == "trial" else "test"]
        return self.speeds[spec.method].seconds(self.sizes[spec.train_on], spec.recipe.epochs, held)

    def fits(self, specs: Sequence[RunSpec], reserve: float) -> bool:
        """Will these runs have ended in time, with what must follow them?"""
        return self.gone() + self.seconds(specs) + reserve <= USED * self.budget

    # ---- runs

    def spec(self, method: str, setting: Setting, epochs: int) -> RunSpec:
        """A trial."""
        recipe = Recipe(lr=setting.lr, epochs=epochs, batch_size=BATCH, drop_path=setting.drop_path, clip_norm=1.0)
        return RunSpec(
            backbone=self.backbone,
            weights=self.weights,
            method=method,
            hyper=setting.hyper,
            task=self.name,
            task_digest=self.task.digest,
            recipe=recipe,
            train_on="train800",
            evaluate_on="val200",
            image_size=self.size,
        )

    def finals(self, entrants: Sequence[Entrant], seeds: Sequence[int]) -> list[RunSpec]:
        """The final runs of the choices."""
        chosen = [one.chosen for one in entrants if one.chosen is not None]
        return [final(spec, seed) for seed in seeds for spec in chosen]

    def round(self, runner: Runner, specs: Sequence[RunSpec], variant: str) -> None:
        """Do these runs. A method of which one fails is out."""
        until = time.monotonic() + max(0.0, self.budget - self.gone())
        new = [spec for spec in specs if not self.records.has(spec)]
        outcome = runner.run([Planned(spec, variant) for spec in specs], until)
        for spec, reason in outcome.failures:
            self.entrant(spec.method).out = f"a run failed: {reason.strip().splitlines()[-1]}"
        done = [spec for spec in new if self.records.has(spec)]
        for spec in done:
            took = self.records.get(spec)["seconds"] / max(self.timed(spec), 1e-9)
            self.pace.setdefault(spec.method, []).append(took)
        if variant == TRIAL:
            for spec in specs:
                self._note(spec)
        self._keep_time()

    def _note(self, spec: RunSpec) -> None:
        """A trial's result."""
        one = self.entrant(spec.method)
        if self.records.has(spec) and spec not in one.specs:
            one.specs.append(spec)
            one.tried.append(tried_of(spec, self.records))

    def entrant(self, method: str) -> Entrant:
        return next(one for one in self.entrants if one.method == method)

    # ---- the course of it

    def run(self) -> Comparison:
        """The whole comparison."""
        most = self.wish.trials or contest.MOST_TRIALS
        self.entrants = [Entrant(method, self.backbone, most) for method in self.methods]
        self._plan()
        with Runner(self.records, self.workers, self.device, progress=False) as runner:
            self._first_look(runner)
            self._trials(runner)
            self._longer(runner)
            finals = self._finals(runner)
        return self._report(finals)

    def _first_look(self, runner: Runner) -> None:
        """Two learning rates of every method."""
        looks = [(one.method, setting) for one in self.entrants for setting in one.first()]
        self.round(runner, [self.spec(method, setting, self.epochs) for method, setting in looks], TRIAL)
        for one in self.entrants:
            if one.tried and one.best is None and one.next() is None:
                one.out = one.out or "all its trials diverged"
        self.say("first look", self.entrants)
        if sum(one.best is not None for one in self.entrants) < 2:
            raise UserError(f"the budget ended before two methods had a trial ({self._reasons()}). {self._kept()}")

    def _trials(self, runner: Runner) -> None:
        """Further trials of those that can still win, those with the fewest first, as long as final runs still fit;
        when all of theirs are done, trials of the others: perhaps their rates were wrong."""
        while True:
            running = contest.still_in(self.entrants, self.sizes["val200"])
            wanted = [(one, setting) for one in running if (setting := one.next()) is not None]
            if not wanted:
                others = [one for one in self.entrants if not one.out and one not in running]
                wanted = [(one, setting) for one in others if (setting := one.next()) is not None]
            wanted.sort(key=lambda pair: len(pair[0].tried))
            batch: list[RunSpec] = []
            for one, setting in wanted:
                spec = self.spec(one.method, setting, self.epochs)
                if self.wish.trials or self.fits([*batch, spec], self._reserve(running)):
                    batch.append(spec)
            if not batch:
                return
            self.round(runner, batch, TRIAL)
            self.say(f"{len(running)} can still win", running)

    def _longer(self, runner: Runner) -> None:
        """Where time is left: twice the epochs, at the chosen rate and the step below, for the two best or more."""
        if self.wish.epochs or self.wish.trials:
            return
        epochs = self.epochs
        while epochs < LONGEST * self.epochs:
            epochs *= 2
            running = contest.still_in(self.entrants, self.sizes["val200"])
            batch: list[RunSpec] = []
            for one in running:
                setting = one.best.setting  # type: ignore[union-attr]
                settings = [setting, dataclasses.replace(setting, lr=step(setting.lr, -1))]
                pair = [self.spec(one.method, some, epochs) for some in settings]
                if self.fits([*batch, *pair], 2 * self._reserve(running)):
                    batch += pair
            if len(batch) < 2 * min(2, len(running)):
                return
            self.round(runner, batch, TRIAL)
            self.say(f"{epochs} epochs", running)

    def _finals(self, runner: Runner) -> dict[str, list[RunSpec]]:
        """Final runs, seed by seed, of those that can still win, of linear probing, and of others while they fit."""
        running = contest.still_in(self.entrants, self.sizes["val200"])
        others = [one for one in self.entrants if not one.out and one.best and one not in running]
        for one in sorted(others, key=lambda one: (one.method != "linear", -one.accuracy)):
            if one.method == "linear" or self.wish.seeds or self.fits([], self._reserve([*running, one])):
                running.append(one)
        done: list[int] = []
        for seed in range(self.wish.seeds or MOST_SEEDS):
            specs = self.finals(running, [seed])
            reserve = self._models(running)
            if seed and not self.wish.seeds and not self.fits(specs, reserve):
                break
            self.round(runner, specs, FINAL)
            running = [one for one in running if not one.out]
            if not all(self.records.has(spec) for spec in self.finals(running, [seed])):
                break
            for one, spec in zip(running, self.finals(running, [seed]), strict=True):
                if self.records.get(spec)["metrics"]["diverged"]:
                    one.out = f"its final run diverged (seed {seed})"
            running = [one for one in running if not one.out]
            done.append(seed)
            self.tell(f"  seed {seed}: {len(running)} final runs; {self._left()}")
        if not done or not running:
            raise UserError(f"the budget ended before the final runs ({self._reasons()}). {self._kept()}")
        return {one.method: self.finals([one], done) for one in running}

    def _reserve(self, running: Sequence[Entrant]) -> float:
        """Seconds for two seeds of final runs and the models to keep."""
        return self.seconds(self.finals(running, range(self.wish.seeds or 2))) + self._models(running)

    def _models(self, running: Sequence[Entrant]) -> float:
        finals = self.finals(running, [0])
        return contest.models(self.sizes) * max((self.alone(spec) for spec in finals), default=0.0)

    def _report(self, finals: dict[str, list[RunSpec]]) -> Comparison:
        tried = {one.method: (one.accuracy, one.out) for one in self.entrants}
        found = compared(self.task, finals, self.records, tried, self.device)
        report = dataclasses.replace(found, temporary=self.temporary)
        kept = report.recommended or ""
        if kept and self.gone() + self._models([self.entrant(kept)]) <= MOST * self.budget:
            self.tell(f"  training the models to keep, {kept}; {self._left()}")
            report.models(kept)
        self._keep_time()
        return dataclasses.replace(report, seconds=self.gone(), budget=self.budget)

    # ---- the plan

    def _plan(self) -> None:
        """The length of runs for this time, or what an earlier call with the same request left beside the records."""
        request = [self.name, self.task.digest, self.methods, self.backbone, self.weights, self.budget, self.device]
        request += [dataclasses.asdict(self.wish), self.workers]
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
        self.path = self.records.root / f"plan-{key}.json"
        try:
            held = json.loads(self.path.read_text(encoding="utf-8"))
            self.speeds = {method: Speed(**speed) for method, speed in held["speeds"].items()}
            self.epochs, self.spent = int(held["epochs"]), float(held["spent"])
            self.started = time.monotonic()
        except FileNotFoundError:
            self.speeds = {one: measure(self.backbone, one, self.task, self.device) for one in self.methods}
            self.epochs = self.wish.epochs or self._length()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"the plan {self.path} is damaged ({error}); delete it and start again") from error
        self._keep_time()
        n, wide = self.sizes, f", {self.workers} at a time" if self.workers > 1 else ""
        self.tell(
            f"{self.task.name}: {self.task.num_classes} classes; {n['train800']} images to train on, {n['val200']} to "
            f"choose with, {n['test']} to test; backbone {self.backbone} at {self.task.image_size} px on "
            f"{self.device}{wide}\nplan: runs of {self.epochs} epochs; two learning rates of each of "
            f"{len(self.methods)} methods, then more of those that can still win; {self._left()}"
        )

    def _length(self) -> int:
        """The greatest length at which a contest fits. ``UserError`` with the least time where one epoch does not."""
        sizes = self.sizes
        needed = {n: contest.needed(n, self.speeds, sizes, self.workers) for n in contest.lengths(sizes["train1000"])}
        fitting = [epochs for epochs, seconds in needed.items() if self.gone() + seconds <= FULL * self.budget]
        if fitting:
            return max(fitting)
        least = (self.gone() + min(needed.values())) / FULL
        raise UserError(
            f"a budget of {clock(self.budget)} is too small: the least comparison of {len(self.methods)} methods takes "
            f'about {clock(least)} here; give budget="{clock(1.1 * least)}" or more, or compare fewer methods'
        )

    def _keep_time(self) -> None:
        """Write the plan with the time that is gone, for a call that goes on."""
        speeds = {method: dataclasses.asdict(speed) for method, speed in self.speeds.items()}
        held = {"epochs": self.epochs, "spent": round(self.gone(), 1), "speeds": speeds}
        write_atomic(self.path, json.dumps(held, indent=1).encode())

    # ---- words

    def say(self, what: str, entrants: Sequence[Entrant]) -> None:
        """Progress: how far it is, and the validation accuracies so far."""
        best = sorted((one for one in entrants if one.best), key=lambda one: -one.accuracy)
        self.tell(f"  {what}: " + ", ".join(f"{one.method} {one.accuracy:.1f}" for one in best) + f"; {self._left()}")

    def tell(self, text: str) -> None:
        if self.progress:
            print(text, file=sys.stderr, flush=True)

    def _left(self) -> str:
        return f"{clock(max(0.0, self.budget - self.gone()))} of {clock(self.budget)} left"

    def _reasons(self) -> str:
        return "; ".join(f"{one.method}: {one.out}" for one in self.entrants if one.out) or "time was up"

    def _kept(self) -> str:
        if self.temporary is not None:
            return "Give more time, or a folder for the records (results=...), so that a second call can go on"
        return f"{len(self.records)} runs are kept in {self.records.root}: give more time, and they count"


def final(spec: RunSpec, seed: int = 0) -> RunSpec:
    """The final run of a trial's setting."""
    return dataclasses.replace(spec, seed=seed, train_on="train1000", evaluate_on="test")
