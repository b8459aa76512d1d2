"""The user guide: for each situation a recommendation computed from our records, beside the study's advice.

A situation is data plus one function ``Results -> Finding``; where the runs are missing it raises ``UserError`` and the
row says "not run", so that rows fill in when records come. Situations of a claim read the claims ledger and decide
nothing themselves. ``pick`` and ``chooser`` answer "which method?" from the tuned runs, for constraints of one's own.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from petl_core import methods as registry
from petl_core.study.budget import Speed
from petl_core.study.profiles import Profile
from petl_core.study.statistics import Interval, interval
from petl_core.utils import DATA, UserError
from petl_guide import runs as select
from petl_guide.accuracy import scores
from petl_guide.claims import table as claims
from petl_guide.claims.verdict import CONTRADICTED, NOT_RUN, NOT_TESTABLE, SUPPORTED, Verdict, judged
from petl_guide.figures.style import INK, WIDTH, applied, headline, look, title
from petl_guide.figures.tables import points
from petl_guide.interactive import charts
from petl_guide.interactive.explorer import Answer, Explorer
from petl_guide.low_shot import affinity, tuning
from petl_guide.results import Results

AGREES = {SUPPORTED: "agrees", CONTRADICTED: "disagrees", NOT_RUN: "not run", NOT_TESTABLE: "no advice"}
OPEN = "open"  # undecided
LOSS = 2.0  # points of accuracy that one may give up for a smaller model, where nothing else is said
NEAR, FAR, ALL = "near", "far", "all"
COSTS = DATA / "costs"
RUNS_OF = {  # starts of the variants whose runs a claim's verdict rests on
    "C3": ("tuned", "longer"),
    "C4": ("drop_path",),
    "C8": ("tuned",),
    "C9": ("many_shot",),
    "C11": ("robustness",),
    "C12": ("robustness_chosen",),
    "C13": ("robustness_chosen",),
}


def parts_of(profile: Profile) -> list[str]:
    """The parts of the profile's study that the situations rest on."""
    starts = ("tuned", "default", *(start for its in RUNS_OF.values() for start in its))
    return [part.name for part in profile.parts if part.name.startswith(starts) or f"{part.name}_chosen" in starts]


def speeds(runs: pd.DataFrame, epochs: int) -> dict[str, Speed]:
    """How fast each method was in these records' final runs, as ``petl_core.study.budget`` wants it.

    A run trained on 1,000 images for ``epochs`` and tested on as many; testing counts as a third of training, and where
    the head alone is trained each image passed the backbone once.
    """
    found = {}
    for method, part in runs.groupby("method"):
        seconds, head_only = float(part["seconds"].mean()), not part["params"].any()
        each = seconds / (2000 if head_only else 1000 * epochs + 1000 / 3)
        found[str(method)] = Speed(0.0, each, each if head_only else each / 3, head_only)
    return found


@dataclass(frozen=True)
class Finding:
    """What our records say: ``verdict`` on the study's advice, a recommendation, and the digests behind both."""

    recommendation: str
    verdict: Verdict
    digests: frozenset[str] = frozenset()

    @property
    def agreement(self) -> str:
        return AGREES.get(self.verdict.verdict, OPEN)


@dataclass(frozen=True)
class Situation:
    """A row of the guide. ``advice``: the study's, in our words; ``find``: ours."""

    name: str
    chapter: str
    advice: str
    find: Callable[[Results], Finding]


def tuned_runs(results: Results) -> pd.DataFrame:
    """The tuned final runs."""
    return select.runs(results.table, "tuned")


def distances(runs: pd.DataFrame) -> pd.Series:
    """How far each task is from the pre-training: full's gain on linear, or linear's error where full was not run."""
    table = scores(runs)
    if "linear" not in table:
        raise UserError("the distance of a task needs runs of linear probing")
    return affinity.distance(table["linear"], table.get("full")).sort_values()


def kind_of_task(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Tasks by kind: "all", each group, the nearer and the farther half (of an odd number the middle is in neither)."""
    found = {ALL: sorted(set(runs["task"]))}
    ordered = list(distances(runs).index)
    half = len(ordered) // 2
    if half:
        found |= {NEAR: ordered[:half], FAR: ordered[-half:]}
    for group in select.group_order(runs["group"]):
        found[group] = sorted(set(runs.loc[runs["group"] == group, "task"]))
    return found


@dataclass(frozen=True)
class Pick:
    """A method picked from tuned runs: its accuracy, parameters, difference to the best of all over tasks, runs."""

    method: str
    best: str
    accuracy: float
    params: float
    difference: Interval
    digests: frozenset[str]
    candidates: pd.DataFrame  # method, accuracy, params; those that were allowed, best first


def pick(
    runs: pd.DataFrame,
    goal: str = "accuracy",
    *,
    most: float | None = None,
    mergeable: bool = False,
    loss: float = LOSS,
    only: Sequence[str] | None = None,
) -> Pick:
    """The method for a goal among these runs.

    ``goal``: "accuracy" (highest mean over tasks) or "parameters" (fewest, at most ``loss`` points below the best that
    is allowed). Allowed are methods with at most ``most`` parameters, that merge if ``mergeable``, and in ``only``.
    Raises ``UserError`` if no method is left.
    """
    if goal not in ("accuracy", "parameters"):
        raise UserError(f"goal is {goal!r}; it is accuracy or parameters")
    table = scores(runs)
    frame = pd.DataFrame({"accuracy": table.mean(), "params": runs.groupby("method")["params"].mean()})
    best = str(frame["accuracy"].idxmax())
    fits = frame if most is None else frame[frame["params"] <= most]
    fits = fits[[(not mergeable or registry.registry[m].mergeable) and (only is None or m in only) for m in fits.index]]
    if fits.empty:
        raise UserError("no method fits: allow more parameters, or methods that do not merge")
    fits = fits.sort_values("accuracy", ascending=False)
    near = fits[fits["accuracy"] >= fits["accuracy"].iloc[0] - (loss if goal == "parameters" else 0)]
    method = str(near["params"].idxmin()) if goal == "parameters" else str(fits.index[0])
    gap = interval((table[method] - table[best]).to_numpy())
    used = runs[runs["method"].isin([method, best])]
    return Pick(
        method,
        best,
        float(frame.loc[method, "accuracy"]),
        float(frame.loc[method, "params"]),
        gap,
        frozenset(used["digest"]),
        fits.reset_index(names="method"),
    )


def recommended(runs: pd.DataFrame, kind: str) -> Pick:
    """The method without a whole model for each task, on these tasks: near the pre-training the smallest (linear
    probing counts) within ``LOSS`` points of the best of them, far from it the most accurate."""
    peft = select.peft(dict.fromkeys(runs["method"]))
    return pick(runs, "parameters", only=[*peft, "linear"]) if kind == NEAR else pick(runs, only=peft)


def size_pays(runs: pd.DataFrame) -> Interval:
    """On these tasks: mean accuracy of the larger half of PEFT methods minus that of the smaller half, over tasks."""
    peft = runs[runs["method"].isin(select.peft(dict.fromkeys(runs["method"])))]
    params = peft.groupby("method")["params"].mean().sort_values()
    half = len(params) // 2
    if not half or runs["task"].nunique() < 2:
        raise UserError("small against large needs two PEFT methods and two tasks or more")
    table = scores(peft)
    gap = table[list(params.index[-half:])].mean(axis=1) - table[list(params.index[:half])].mean(axis=1)
    return interval(gap.to_numpy())


def _of_kind(results: Results, kind: str) -> pd.DataFrame:
    runs = tuned_runs(results)
    tasks = kind_of_task(runs).get(kind, [])
    if not tasks:
        raise UserError(f"no tasks are {kind}; there are runs of {runs['task'].nunique()} task(s)")
    return runs[runs["task"].isin(tasks)]


def _near(results: Results) -> Finding:
    runs = _of_kind(results, NEAR)
    gain = size_pays(runs)
    saved = Interval(-gain.mean, -gain.high, -gain.low, gain.n)
    verdict = judged(saved, "points, small minus large methods", "equal trials", margin=-LOSS, sample="nearer tasks")
    small = recommended(runs, NEAR)
    text = f"{title(small.method)} ({small.params:,.0f} parameters): the smallest within {LOSS:g} points"
    return Finding(text, verdict, frozenset(runs["digest"]))


def _far(results: Results) -> Finding:
    runs = _of_kind(results, FAR)
    verdict = judged(size_pays(runs), "points, large minus small methods", "equal trials", sample="farther tasks")
    peft = recommended(runs, FAR)
    text = f"{title(peft.best)}" + (f"; of the PEFT methods {title(peft.method)}" if peft.best != peft.method else "")
    return Finding(text, verdict, frozenset(runs["digest"]))


def _merging(results: Results) -> Finding:
    runs = tuned_runs(results)
    peft = select.peft(dict.fromkeys(runs["method"]))
    merging = pick(runs, mergeable=True, only=peft)
    every = pick(runs, only=peft)
    cost = merging.difference if every.method == every.best else _gap(runs, merging.method, every.method)
    ends = points(cost.mean, cost.low, cost.high)
    text = f"{title(merging.method)}" + (
        "" if merging.method == every.method else f"; {ends} from {title(every.method)}"
    )
    verdict = Verdict(
        NOT_TESTABLE, cost.mean, cost.low, cost.high, f"points from {title(every.method)}", cost.n, note="no advice"
    )
    return Finding(text, verdict, frozenset(runs.loc[runs["method"].isin([merging.method, every.method]), "digest"]))


def _gap(runs: pd.DataFrame, one: str, other: str) -> Interval:
    table = scores(runs)
    return interval((table[one] - table[other]).to_numpy())


def _memory(results: Results, folder: Path = COSTS) -> Finding:
    """From the newest kind of file that chapter 9 leaves in ``data/costs``: exact bytes of a training step."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UserError("no file of costs is in data/costs (chapter 9): python -m petl_make costs --help")
    rows = pd.DataFrame(json.loads(files[-1].read_text(encoding="utf-8"))["methods"]).set_index("method")
    peft = rows.loc[select.peft(list(rows.index))]
    share = 100 * peft["memory"] / rows.loc["full", "memory"]
    least = str(share.idxmin())
    text = f"{title(least)}: {share[least]:.0f} % of full fine-tuning's memory ({files[-1].stem})"
    note = f"PEFT methods need {share.min():.0f} to {share.max():.0f} %"
    return Finding(text, Verdict(NOT_TESTABLE, note=note, n=len(peft), sample="methods"))


def _untuned(results: Results) -> Finding:
    effect = tuning.paired(results.table, "tuned", "default")
    gain = tuning.mean_difference(effect)
    runs = select.runs(results.table, "default")
    first = pick(runs)
    digests = set(runs["digest"]) | set(
        tuned_runs(results).query("task in @tasks", local_dict={"tasks": set(runs["task"])})["digest"]
    )
    unit = f"points, tuned minus default, {effect['method'].nunique()} methods"
    verdict = judged(gain, unit, "the same seeds", sample=tuning.sample(effect))
    return Finding(
        f"tune the learning rate first; if there is no time, {title(first.method)}", verdict, frozenset(digests)
    )


def of_claim(number: str, recommend: Mapping[str, str]) -> Callable[[Results], Finding]:
    """A situation that a claim of the ledger decides; ``recommend``: a text for each word of a verdict."""

    def find(results: Results) -> Finding:
        verdict = claims.on_ours(claims.get(number), results)
        table = results.table
        starts = RUNS_OF.get(number, ())
        mine = table[table["variant"].str.startswith(starts)] if starts else table.iloc[:0]
        if verdict.verdict == NOT_RUN:
            return Finding("", verdict)
        return Finding(recommend.get(verdict.verdict, recommend[OPEN]), verdict, frozenset(mine["digest"]))

    return find


SITUATIONS = (
    Situation(
        "few labels: PEFT, linear or full?",
        "04",
        "PEFT, not linear probing or full fine-tuning; accuracies are similar, so choose by practical criteria",
        of_claim(
            "C3",
            {
                SUPPORTED: "PEFT",
                CONTRADICTED: "full fine-tuning down to small rates, if a whole model for each task is no matter",
                OPEN: "PEFT for its size; a well-tuned baseline may be level",
            },
        ),
    ),
    Situation(
        "few labels, near the pre-training",
        "04",
        "the cheapest method is enough (DiffFit, SSF, LayerNorm, BitFit)",
        _near,
    ),
    Situation(
        "few labels, far from the pre-training",
        "04",
        "more capacity (ConvPass, Houlsby or Pfeiffer adapters, AdaptFormer, RepAdapter)",
        _far,
    ),
    Situation(
        "few labels: drop path?",
        "04",
        "yes, 0.1",
        of_claim("C4", {SUPPORTED: "on", CONTRADICTED: "off", OPEN: "try both: two trials decide it"}),
    ),
    Situation("no time to tune", "04", "tune learning rate, weight decay, size and scale", _untuned),
    Situation(
        "many labels",
        "06",
        "PEFT with 2 to 5 % of the parameters instead of full fine-tuning",
        of_claim(
            "C9",
            {
                SUPPORTED: "PEFT with up to 5 % of the parameters",
                CONTRADICTED: "full fine-tuning, down to small rates",
                OPEN: "PEFT or full fine-tuning, undecided; PEFT where many models must be kept",
            },
        ),
    ),
    Situation("little memory for training", "09", "none: cost was outside its scope", _memory),
    Situation("must merge into a plain ViT", "02", "none: cost was outside its scope", _merging),
    Situation(
        "time to spare at prediction",
        "05",
        "an ensemble of several PEFT methods",
        of_claim(
            "C8",
            {
                SUPPORTED: "an ensemble of different methods of like accuracy; seeds of one give part of it",
                CONTRADICTED: "an ensemble of seeds of the best method",
                OPEN: "an ensemble, of methods or of seeds",
            },
        ),
    ),
    Situation(
        "images will shift after training",
        "08",
        "PEFT rather than plain full fine-tuning",
        of_claim(
            "C11",
            {
                SUPPORTED: "PEFT",
                CONTRADICTED: "full fine-tuning",
                OPEN: "PEFT or full fine-tuning; undecided at matched accuracy",
            },
        ),
    ),
    Situation(
        "shift, and the model is PEFT",
        "08",
        "weight-space ensemble with the pre-trained model, alpha about 0.4 to 0.9",
        of_claim(
            "C12",
            {
                SUPPORTED: "interpolate(model, 0.5)",
                CONTRADICTED: "keep the better end",
                OPEN: "try interpolate(model, alpha)",
            },
        ),
    ),
    Situation(
        "shift, and the highest accuracy too",
        "08",
        "full fine-tuning with a weight-space ensemble",
        of_claim(
            "C13",
            {
                SUPPORTED: "full fine-tuning, interpolated",
                CONTRADICTED: "PEFT, interpolated",
                OPEN: "either, interpolated",
            },
        ),
    ),
)


def findings(results: Results) -> dict[str, Finding]:
    """The finding for each situation; "not run" with what is missing where there are no runs for it."""
    found = {}
    for situation in SITUATIONS:
        try:
            found[situation.name] = situation.find(results)
        except UserError as error:
            found[situation.name] = Finding("", Verdict(NOT_RUN, note=str(error)))
    return found


def decision_table(found: Mapping[str, Finding]) -> pd.DataFrame:
    """Columns situation, chapter, recommended here, evidence, runs, the study's advice, ours."""
    rows = []
    for situation in SITUATIONS:
        finding = found[situation.name]
        evidence = finding.verdict.size or finding.verdict.note
        if finding.agreement == "not run":
            evidence = f"not run: {finding.verdict.note}"
        rows.append(
            {
                "situation": situation.name,
                "recommended here": finding.recommendation or "–",
                "evidence": evidence,
                "runs": len(finding.digests) or np.nan,
                "the study's advice": situation.advice,
                "ours": finding.agreement,
                "chapter": situation.chapter,
            }
        )
    return pd.DataFrame(rows)


def agreement_figure(found: Mapping[str, Finding], message: str) -> Figure:
    """A row for each situation: whether our records agree with the study's advice, by shape and colour."""
    marks = {"agrees": ("o", "#0072b2"), "disagrees": ("X", "#d55e00"), OPEN: ("D", "#8a8f94")}
    marks |= {"not run": ("_", "#8a8f94"), "no advice": ("s", "#e69f00")}
    with applied():
        fig, ax = plt.subplots(figsize=(WIDTH, 1.0 + 0.37 * len(SITUATIONS)))
        for y, situation in enumerate(reversed(SITUATIONS)):
            finding = found[situation.name]
            marker, colour = marks[finding.agreement]
            ax.plot(0, y, marker, color=colour, ms=8, mew=2)
            ax.text(0.04, y, finding.agreement, va="center", fontsize=8.5, color=INK)
            text = textwrap.fill(finding.recommendation, 62) or "–"
            ax.text(0.22, y, text, va="center", fontsize=8, color=INK, linespacing=1.1)
            ax.axhline(y - 0.5, color="#eceff1", lw=0.8)
        top = len(SITUATIONS) - 0.35
        ax.text(-0.02, top, "with the study", va="bottom", fontsize=8, color="#5f6368")
        ax.text(0.22, top, "recommended here", va="bottom", fontsize=8, color="#5f6368")
        ax.set_yticks(range(len(SITUATIONS)), [s.name for s in reversed(SITUATIONS)])
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.set(xlim=(-0.03, 1.0), ylim=(-0.5, len(SITUATIONS) + 0.1))
        ax.spines[:].set_visible(False)
        headline(fig, message)
        return fig


BUDGETS = ("3,000", "10,000", "30,000", "100,000", "any")


def chooser(results: Results) -> Explorer:
    """Choose the kind of task, what matters and a limit on parameters: the method, with the records behind it."""
    runs = tuned_runs(results)
    kinds = kind_of_task(runs)

    def answer_to(task: str, matters: str, parameters: str, give_up: float) -> Answer:
        part = runs[runs["task"].isin(kinds[task])]
        most = None if parameters == "any" else float(parameters.replace(",", ""))
        try:
            found = pick(
                part,
                "accuracy" if matters == "accuracy" else "parameters",
                most=most,
                mergeable=matters == "merging",
                loss=give_up,
            )
        except UserError as error:
            return Answer({"method": "none", "runs": 0}, f"**None.** {str(error).capitalize()}.")
        gap = found.difference
        values = {
            "method": title(found.method),
            "accuracy (%)": found.accuracy,
            "trained": found.params,
            "to the best": gap.mean,
            "from": gap.low,
            "to": gap.high,
            "runs": len(found.digests),
        }
        beside = "It is the most accurate of all."
        if found.method != found.best:
            ends = points(gap.mean, gap.low, gap.high)
            beside = f"{ends} from the most accurate of all, {title(found.best)} (over {gap.n} tasks)."
        text = (
            f"**{title(found.method)}**: {found.accuracy:.1f} % on {len(kinds[task])} tasks ({task}), "
            f"{found.params:,.0f} trained parameters. {beside} Behind this: {len(found.digests)} records, "
            f"{', '.join(sorted(found.digests)[:3])}, …; {len(found.candidates)} methods were allowed."
        )
        return Answer(values, text, lambda: _candidates(found, f"{task} tasks: {title(found.method)}"))

    controls: Mapping[str, Sequence] = {
        "task": list(kinds),
        "matters": ["accuracy", "size", "merging"],
        "parameters": list(BUDGETS),
        "give_up": [0.5, 1.0, 2.0, 5.0],
    }
    start = {"task": ALL, "matters": "size", "parameters": "any", "give_up": LOSS}
    return Explorer(controls, start, answer_to, charts.choices(_means(runs, kinds)))


def _means(runs: pd.DataFrame, kinds: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Mean accuracy and parameters of every method on each kind of task: task (the kind), method, params, accuracy."""
    parts = []
    for kind, tasks in kinds.items():
        part = runs[runs["task"].isin(tasks)]
        means = {"accuracy": scores(part).mean(), "params": part.groupby("method")["params"].mean()}
        parts.append(pd.DataFrame(means).rename_axis("method").reset_index().assign(task=kind))
    return pd.concat(parts, ignore_index=True)


def _candidates(found: Pick, message: str) -> Figure:
    """The allowed methods: accuracy against parameters, the picked one ringed."""
    with applied():
        fig, ax = plt.subplots(figsize=(WIDTH, 3.4))
        for _, row in found.candidates.iterrows():
            shown = look(row["method"])
            ax.plot(
                max(row["params"], 100),
                row["accuracy"],
                shown.marker,
                color=shown.colour,
                ms=7,
                mec="white",
                ls="",
                label=shown.title,
            )
        ax.plot(max(found.params, 100), found.accuracy, "o", ms=15, mfc="none", mec=INK, mew=1.4)
        ax.set_xscale("log")
        ax.set(xlabel="trained parameters (head not counted; none shown at 100)", ylabel="test accuracy (%)")
        ax.set_title(message)
        fig.legend(loc="outside lower center", ncols=6, fontsize=8, handletextpad=0.1, columnspacing=1.0)
        return fig
