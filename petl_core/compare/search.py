"""The search behind ``petl_core.compare``: trials, choice and final runs of each method within a time budget.

The protocol is the study's (trials, choose, final runs), the plan is ``petl_core.study.budget``'s, the
runs are records, and the answer is a ``petl_core.compare.report.Comparison``. With a folder for the records, the
same call again goes on from where it was stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from petl_core import methods
from petl_core.compare.look import card_of_task, task_name
from petl_core.compare.pace import FINAL, TRIAL, Pace
from petl_core.compare.report import Comparison, rows_of
from petl_core.compare.standing import standing
from petl_core.data.embedded import embedded_names
from petl_core.data.task import Task
from petl_core.models import weights as backbones
from petl_core.study import plan as study
from petl_core.study.budget import BATCH, Plan, clock, make_plan, measure, seconds_of
from petl_core.study.execute import default_workers, device_called, fresh_task
from petl_core.study.executor import Planned
from petl_core.study.predictions import load as load_predictions
from petl_core.study.profile import DROP_PATHS, Profile
from petl_core.study.records import Records, RunSpec
from petl_core.study.runner import Runner
from petl_core.study.search import Setting
from petl_core.study.time import Speed
from petl_core.training.train import Recipe
from petl_core.utils import UserError, write_atomic


def search(
    images: str | Path,
    methods: Sequence[str],
    backbone: str,
    budget: str | float,
    *,
    results: str | Path | None,
    trials: int | None,
    steps: int | None,
    seeds: int | None,
    image_size: int | None,
    workers: int | None,
    device: str,
    progress: bool,
    resize: str | None,
    group: str | None,
    strict: bool,
) -> Comparison:
    """What ``petl_core.compare.compare`` does."""
    started = time.monotonic()
    chosen, given = _methods(methods), seconds_of(budget)
    fixed = {"trials": trials, "steps": steps, "seeds": seeds}
    asked = {name: _whole(name, value) for name, value in fixed.items() if value is not None}
    device = device_called(device)
    name = task_name(images, resize, group, strict=strict)
    embedded = name.partition("@")[0] in embedded_names()
    size = None if embedded else image_size or backbones.config_of(backbone).image_size
    if embedded and image_size is not None:
        raise UserError(f"the embedded task '{name}' has one size; leave image_size out")
    card = card_of_task(name, size)
    if progress and card is not None:
        print(card, file=sys.stderr, flush=True)
    task = fresh_task(name, size)
    temporary = None if results is not None else tempfile.TemporaryDirectory(prefix="petl_compare_")
    records = Records(Path(results) if temporary is None else temporary.name)  # type: ignore[arg-type]
    records.check_writable()
    work = Search(task, name, size, chosen, backbone, backbones.digest(backbone), records, device, progress)
    work.temporary, work.card = temporary, "" if card is None else card.text()
    most = default_workers() if workers is None else workers
    plan = work.make_plan(given, asked, most if device == "cpu" else 1, started)
    work.say(work.introduction(plan, given))
    return work.run(plan, started + given)


@dataclass
class Search:
    """One comparison while it is made."""

    task: Task
    name: str  # under which worker processes load the task again
    size: int | None
    methods: tuple[str, ...]
    backbone: str
    weights: str
    records: Records
    device: str
    progress: bool
    speeds: dict[str, Speed] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # method: why
    temporary: Any = None  # keeps a temporary folder alive
    card: str = ""
    resumed: bool = False
    profile: Profile | None = None

    @property
    def sizes(self) -> dict[str, int]:
        return {split: len(index) for split, index in self.task.splits.items()}

    def say(self, text: str) -> None:
        if self.progress:
            print(text, file=sys.stderr, flush=True)

    def make_plan(self, budget: float, fixed: Mapping[str, int], workers: int, started: float) -> Plan:
        """The plan for this budget, or the one that an earlier call with the same request left beside the records."""
        request = [self.name, self.task.digest, self.methods, self.backbone, self.weights, budget, fixed, self.device]
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
        path = self.records.root / f"plan-{key}.json"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            self.speeds = {method: Speed(**speed) for method, speed in held["speeds"].items()}
            self.resumed = True
            return dataclasses.replace(Plan(**held["plan"]), workers=max(1, min(workers, held["plan"]["workers"])))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"the plan {path} is damaged ({error}); delete it and start again") from error
        self.speeds = {method: measure(self.backbone, method, self.task, self.device) for method in self.methods}
        grids = {method: _settings(method) for method in self.methods}
        fewest = min(grids, key=lambda method: grids[method])
        if fixed.get("trials", 1) > grids[fewest]:
            raise UserError(
                f"trials is {fixed['trials']}, but method '{fewest}' has {grids[fewest]} settings to try, and every "
                f"method gets the same number; choose 1 to {grids[fewest]}, or leave '{fewest}' out"
            )
        gone = time.monotonic() - started  # reading the images and timing the methods counts too
        plan = make_plan(self.speeds, self.sizes, budget, workers, grids[fewest], fixed, gone)
        held = {"plan": dataclasses.asdict(plan), "speeds": {m: dataclasses.asdict(s) for m, s in self.speeds.items()}}
        write_atomic(path, json.dumps(held, indent=1).encode())
        return plan

    def introduction(self, plan: Plan, budget: float) -> str:
        """What is going to be done and how long it will take."""
        n = self.sizes
        where = f"{self.device}, {plan.workers} at a time" if plan.workers > 1 else self.device
        lines = [
            f"{self.task.name}: {self.task.num_classes} classes; {n['train800']} images to train on, {n['val200']} to "
            f"choose with, {n['test']} to test; backbone {self.backbone} at {self.task.image_size} px on {where}",
            f"plan: {plan.text(len(self.methods))}, about {clock(plan.seconds)} of the {clock(budget)} given"
            + (" (an earlier call's plan; what has a record is not run again)" if self.resumed else ""),
        ]
        if n["val200"] < 30:
            lines.append(f"with {n['val200']} validation images the choice of settings is mostly luck")
        return "\n".join(lines)

    def run(self, plan: Plan, until: float) -> Comparison:
        """Trials, choice, final runs, in rounds of one run for each method, so that a stop leaves them equal."""
        tune, final = (Recipe(epochs=epochs, batch_size=BATCH) for epochs in (plan.trial_epochs, plan.final_epochs))
        seeds = tuple(range(plan.seeds))
        profile = Profile("compare", "", self.backbone, (self.name,), self.methods, (), seeds, plan.trials, tune, final)
        self.profile = profile
        pace = Pace(self.speeds, self.sizes, plan, until)
        with Runner(self.records, plan.workers, self.device, progress=False) as runner:
            tried = self._tune(runner, plan, profile, pace)
            picked = {}
            for method, specs in tried.items():
                best = study.choose(specs, self.records)
                if best is None:
                    self.left_out[method] = "all its trials diverged"
                else:
                    picked[method] = best
            finals = {method: study.final_specs(profile, spec) for method, spec in picked.items()}
            done = self._finals(runner, finals, pace)
        kept = {m: specs[:done] for m, specs in finals.items() if m not in self.left_out}
        if len(kept) < 2:
            raise UserError(f"the budget ended with {len(kept)} methods to compare ({self._reasons()}). {self._kept()}")
        rounds = len(next(iter(tried.values())))
        self.say(f"done: {rounds} trials each, {done} seeds; {clock(time.monotonic() - pace.started)} gone")
        return self._report(plan, rounds, kept)

    def _report(self, plan: Plan, rounds: int, finals: dict[str, list[RunSpec]]) -> Comparison:
        """Read the final runs' records, once, and compare them."""
        columns = ("task", "method", "seed", "digest", "diverged")
        runs = [(self.name, method, s.seed, s.digest, False) for method, specs in finals.items() for s in specs]
        labels = self.task.split("train1000")[1]
        constant = int(torch.bincount(labels, minlength=self.task.num_classes).argmax())
        order = standing(load_predictions(self.records, pd.DataFrame(runs, columns=columns)), constant)
        return Comparison(
            task=self.task.name,
            classes=self.task.classes,
            sizes=self.sizes,
            backbone=self.backbone,
            plan=plan,
            trials=rounds,
            seeds=len(next(iter(finals.values()))),
            table=rows_of(finals, self.records, order.table),
            standing=order,
            constant=constant,
            left_out=dict(self.left_out),
            finals=finals,
            records=self.records,
            device=self.device,
            temporary=self.temporary,
            card=self.card,
        )

    def _tune(self, runner: Runner, plan: Plan, profile: Profile, pace: Pace) -> dict[str, list[RunSpec]]:
        """The trials of each method, as many as all have; a round that was not finished does not count."""
        points = {method: study.trials(method, plan.trials) for method in self.methods}
        specs = {method: [self._trial(profile, method, point) for point in its] for method, its in points.items()}
        rounds = 0
        for number in range(plan.trials):
            going = [method for method in self.methods if method not in self.left_out]
            if number and not pace.allows_trial(going):
                break
            if not self._round(runner, {m: specs[m][number] for m in going}, TRIAL, pace):
                break
            rounds += 1
        if not rounds:
            raise UserError(f"the budget ended before each method had one trial ({self._reasons()}). {self._kept()}")
        return {m: its[:rounds] for m, its in specs.items() if m not in self.left_out}

    def _finals(self, runner: Runner, finals: dict[str, list[RunSpec]], pace: Pace) -> int:
        """The final runs, seed by seed; how many seeds every method has."""
        done = 0
        for number in range(len(self.profile.seeds)):  # type: ignore[union-attr]
            going = [method for method in finals if method not in self.left_out]
            if number and not pace.allows_seed(going):
                break
            whole = self._round(runner, {m: finals[m][number] for m in going}, FINAL, pace)
            if not whole and number:
                break
            for method in going:
                if not self.records.has(finals[method][number]):
                    self.left_out.setdefault(method, "no time was left for its final run")
                elif self.records.get(finals[method][number])["metrics"]["diverged"]:
                    self.left_out[method] = f"its final run diverged (seed {number})"
            done += 1
        return done

    def _round(self, runner: Runner, specs: Mapping[str, RunSpec], variant: str, pace: Pace) -> bool:
        """Run one spec of each method; True if none had to be left for want of time. A failing method is left out."""
        outcome = runner.run([Planned(spec, variant) for spec in specs.values()], pace.until)
        of = {spec.digest: method for method, spec in specs.items()}
        for spec, reason in outcome.failures:
            self.left_out[of[spec.digest]] = f"a run failed: {reason.strip().splitlines()[-1]}"
        pace.saw(list(specs), variant, outcome.done, len(specs))
        scores = [f"{m} {self._score(spec)}" for m, spec in specs.items() if self.records.has(spec)]
        left = clock(max(0.0, pace.until - time.monotonic()))
        on = "validation" if variant == TRIAL else "seed"
        number = next(iter(specs.values())).seed if variant == FINAL else ""
        shown = (
            ", ".join(scores) if variant == TRIAL else f"{len(scores)} final runs"
        )  # test is looked at once, at the end
        self.say(f"  {on}{f' {number}' if number != '' else ''}: {shown}; {left} of the budget left")
        return not outcome.left

    def _reasons(self) -> str:
        return "; ".join(f"{method}: {why}" for method, why in self.left_out.items()) or "time was up"

    def _kept(self) -> str:
        if self.temporary is not None:
            return "Give more time, or a folder for the records (results=...), so that a second call can go on"
        return f"{len(self.records)} runs are kept in {self.records.root}: the same call goes on from there"

    def _score(self, spec: RunSpec) -> str:
        accuracy = self.records.get(spec)["metrics"]["accuracy"]
        return "diverged" if accuracy is None else f"{accuracy:.1f}"

    def _trial(self, profile: Profile, method: str, point: Setting) -> RunSpec:
        recipe = dataclasses.replace(profile.tune, lr=point.lr, drop_path=point.drop_path)
        return RunSpec(
            backbone=self.backbone,
            weights=self.weights,
            method=method,
            hyper=point.hyper,
            task=self.name,
            task_digest=self.task.digest,
            recipe=recipe,
            seed=profile.seeds[0],
            train_on="train800",
            evaluate_on="val200",
            image_size=self.size,
        )


def _methods(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise UserError(f"methods is {names!r}; give a list of names, such as ['linear', 'lora']")
    chosen = tuple(names)
    for name in chosen:
        try:
            methods.get(name)
        except ValueError as error:
            more = "; compare takes single methods, not combinations" if "+" in str(name) else ""
            raise UserError(f"{error}{more}") from error
    if len(chosen) < 2 or len(set(chosen)) != len(chosen):
        raise UserError(f"methods are {', '.join(chosen) or 'none'}; give two or more, each once")
    return chosen


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name} is {value!r}; it must be a whole number, 1 or more")
    return value


def _settings(method: str) -> int:
    """How many settings the method's grid has."""
    cls = type(methods.get(method))
    sizes = [len({default, *values}) for default, values in ((cls().hyper()[k], v) for k, v in cls.space.items())]
    return math.prod([len(cls.lrs), len(DROP_PATHS), *sizes])
