"""The user guide to look at and to ask: its figure, and the chooser with constraints of one's own."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from petl_core.utils import UserError
from petl_guide.accuracy import scores
from petl_guide.figures.style import INK, WIDTH, applied, headline, look, title
from petl_guide.figures.tables import points
from petl_guide.guide import AGREES, DISAGREES, OPEN, SITUATIONS, Finding
from petl_guide.interactive import charts
from petl_guide.interactive.explorer import Answer, Explorer
from petl_guide.picks import ALL, LOSS, Pick, kind_of_task, pick, tuned_runs
from petl_guide.results import Results

BUDGETS = ("3,000", "10,000", "30,000", "100,000", "any")


def agreement_figure(found: Mapping[str, Finding], message: str) -> Figure:
    """A row for each situation: whether our records agree with the study's advice, by shape and colour."""
    marks = {AGREES: ("o", "#0072b2"), DISAGREES: ("X", "#d55e00"), OPEN: ("D", "#8a8f94")}
    marks |= {"depends on the task": ("P", "#cc79a7"), "not run": ("_", "#8a8f94"), "no advice": ("s", "#e69f00")}
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


def method_chooser(results: Results) -> Explorer:
    """Choose the kind of task, what matters and a limit on parameters: the method, with the records behind it."""
    runs = tuned_runs(results)
    kinds = kind_of_task(runs)

    def answer_to(task: str, matters: str, parameters: str, give_up: float) -> Answer:
        part = runs[runs["task"].isin(kinds[task])]
        most = None if parameters == "any" else float(parameters.replace(",", ""))
        try:
            goal = "accuracy" if matters == "accuracy" else "parameters"
            found = pick(part, goal, most=most, mergeable=matters == "merging", loss=give_up)
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
            mark: dict[str, Any] = {"marker": shown.marker, "color": shown.colour, "ms": 7, "mec": "white", "ls": ""}
            ax.plot(max(row["params"], 100), row["accuracy"], label=shown.title, **mark)
        ax.plot(max(found.params, 100), found.accuracy, "o", ms=15, mfc="none", mec=INK, mew=1.4)
        ax.set_xscale("log")
        ax.set(xlabel="trained parameters (head not counted; none shown at 100)", ylabel="test accuracy (%)")
        ax.set_title(message)
        fig.legend(loc="outside lower center", ncols=6, fontsize=8, handletextpad=0.1, columnspacing=1.0)
        return fig
