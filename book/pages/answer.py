"""The front page's answer to "which method should I use?": one figure, and the same in words.

Both are computed from the tuned runs and say what ``guide`` says: tasks near the pre-training and far from it are
apart, because which method to take depends on that. The figure is narrow, so that it can be read on a phone.
"""

from __future__ import annotations

import functools

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from petl_core.utils import UserError
from petl_guide import accuracy, picks
from petl_guide import runs as select
from petl_guide.facts import Facts
from petl_guide.figures.style import FAMILIES, GREY, INK, Shown, applied, headline, look, show, title
from petl_guide.picks import FAR, LOSS, NEAR
from petl_guide.verdict import NOT_RUN

PICTURE = "images/which_method.png"
KINDS = {NEAR: "near the pre-training", FAR: "far from the pre-training"}
SIZE, DPI, SHOWN = (4.0, 5.6), 200, 460  # inches; dots per inch; width on the page: narrow, so legible on a phone
MARKERS = {"selective": "o", "low-rank": "D", "adapter": "s", "prompt": "^", "other": "v"}
NAMED = (  # situations of the guide that the front page lists, from common to special
    "few labels: PEFT, linear or full?",
    "few labels, near the pre-training",
    "few labels, far from the pre-training",
    "many labels",
    "must merge into a plain ViT",
    "time to spare at prediction",
    "images will shift after training",
)


def runs_of(facts: Facts) -> dict[str, pd.DataFrame]:
    """The tuned runs on the tasks of each kind in ``KINDS``. ``UserError`` if one has no task, or a baseline no run."""
    if lacking := {"full", "linear"} - set(facts.tuned["method"]):
        raise UserError(f"there are no tuned runs of {' and '.join(sorted(lacking))}, with which methods are compared")
    tasks = picks.kind_of_task(facts.tuned)
    found = {kind: facts.tuned[facts.tuned["task"].isin(tasks[kind])] for kind in KINDS}
    if empty := [said for kind, said in KINDS.items() if found[kind].empty]:
        raise UserError(f"no task of these runs is {' or '.join(empty)}")
    return found


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """By method: mean accuracy over these tasks with its 95 % interval over seeds, and trained parameters in per cent
    of the backbone's (those of full fine-tuning)."""
    means = accuracy.by_group(runs.assign(group="these"))
    found = means[means["group"] == "these"].set_index("method")[["mean", "low", "high"]]
    params = runs.groupby("method")["params"].mean()
    return found.assign(share=100 * params / params["full"])


def message(facts: Facts) -> str:
    """The title of the figure."""
    near, far = (title(picks.recommended(runs, kind).method) for kind, runs in runs_of(facts).items())
    return (
        f"Near the pre-training take {near}, the smallest within {LOSS:g} points; far from it {far}, the most accurate "
        "PEFT method"
    )


@functools.lru_cache(maxsize=1)
def picture(facts: Facts) -> Shown:
    """Accuracy against trained parameters, near the pre-training and far from it; the recommended methods named."""
    runs = runs_of(facts)
    tables = {kind: table(its) for kind, its in runs.items()}
    names = {kind: picks.recommended(its, kind).method for kind, its in runs.items()}
    counts = {kind: its["task"].nunique() for kind, its in runs.items()}
    said = "; ".join(
        f"on {counts[kind]} tasks {KINDS[kind]}, {title(names[kind])} reaches {its.loc[names[kind], 'mean']:.1f} % "
        f"with {its.loc[names[kind], 'share']:.2g} % of the parameters, full fine-tuning "
        f"{its.loc['full', 'mean']:.1f} %, linear probing {its.loc['linear', 'mean']:.1f} %"
        for kind, its in tables.items()
    )
    alt = f"Two panels of test accuracy against trained parameters, a mark for each method: {said}."
    with plt.rc_context({"savefig.dpi": "figure"}):
        return show(_figure(tables, names, counts, message(facts)), alt)


def directive(facts: Facts) -> str:
    """The figure as the front page shows it, with its description and caption."""
    runs, plan = facts.tuned, facts.results.profile
    left = runs["task"].nunique() - sum(its["task"].nunique() for its in runs_of(facts).values())
    return "\n".join(
        [
            f"```{{figure}} {PICTURE}",
            f":alt: {picture(facts).alt}",
            f":width: {SHOWN}px",
            "",
            f"Test accuracy after tuning against trained parameters: {runs['digest'].nunique():,} runs "
            f"({len(plan.methods)} methods, {runs['task'].nunique()} tasks, {len(plan.seeds)} seeds, equal trials). "
            "A task is near the pre-training where full fine-tuning gains little on a linear probe; tasks in between "
            f"({left}) are left out.",
            "```",
        ]
    )


def _figure(tables: dict[str, pd.DataFrame], names: dict[str, str], counts: dict[str, int], text: str) -> Figure:
    with applied():
        fig, axes = plt.subplots(len(tables), 1, figsize=SIZE, dpi=DPI, sharex=True, sharey=True)
        share = pd.concat(found.loc[select.peft(found.index), "share"] for found in tables.values())
        axes[0].set(xscale="log", xlim=(share.min() / 1.6, share.max() * 2))
        for ax, (kind, found) in zip(axes, tables.items(), strict=True):
            _panel(ax, found, names[kind])
            ax.set_title(f"{counts[kind]} tasks {KINDS[kind]}", fontsize=9.5)
            ax.set_ylabel("test accuracy (%)")
        axes[-1].set_xlabel("parameters trained (% of the backbone)")
        families = [f for f in FAMILIES if any(look(m).family == f for m in select.peft(tables[NEAR].index))]
        handles = [Line2D([], [], marker=MARKERS[f], ls="", color=FAMILIES[f], ms=5, label=f) for f in families]
        handles.append(Line2D([], [], marker="|", ls="", color=GREY, ms=9, mew=1.5, label="95 % over seeds"))
        fig.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.1, columnspacing=1.2)
        headline(fig, text)
        return fig


def _panel(ax: Axes, found: pd.DataFrame, name: str) -> None:
    """One kind of task: every PEFT method, both baselines as lines, the recommended method and the others' ends."""
    peft = found.loc[select.peft(found.index)]
    for method, row in peft.iterrows():
        family = look(str(method)).family
        ax.plot([row["share"]] * 2, [row["low"], row["high"]], color=FAMILIES[family], lw=1.2)
        ax.plot(row["share"], row["mean"], MARKERS[family], color=FAMILIES[family], ms=5, mec="white", mew=0.5)
    for baseline, text, style in (("full", "full fine-tuning (100 %)", "-"), ("linear", "linear probing (0 %)", "--")):
        height, top = found.loc[baseline, "mean"], baseline == "full"
        ax.axhline(height, color=FAMILIES["baseline"], lw=1, ls=style, zorder=0)
        ax.annotate(
            text, (0.01 if top else 1, height), (0, 3 if top else -3), xycoords=ax.get_yaxis_transform(),
            textcoords="offset points", ha="left" if top else "right", va="bottom" if top else "top", fontsize=8,
            color=FAMILIES["baseline"],
        )  # fmt: skip
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.margins(y=0.12)
    _name(ax, found, name, bold=True)
    for other in {str(peft["mean"].idxmax()), str(peft["mean"].idxmin())} - {name}:
        _name(ax, found, other, bold=False)


def _name(ax: Axes, found: pd.DataFrame, method: str, *, bold: bool) -> None:
    """A method's name beside its mark; with a ring and in bold if it is the recommended one."""
    x, y = found.loc[method, "share"], found.loc[method, "mean"]
    if bold:
        ax.plot(x, y, "o", ms=12, mfc="none", mec=INK, mew=1.3)
    edge = x < 2 * ax.get_xlim()[0]  # at the left border
    text = ax.annotate(
        title(method), (x, y), (-4 if edge else 0, -19 if bold else 7), textcoords="offset points",
        ha="left" if edge else "center", fontsize=9.5 if bold else 8, weight="bold" if bold else "normal", color=INK,
    )  # fmt: skip
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def words(facts: Facts) -> str:
    """What the guide recommends in the commonest situations, as a list; those without runs are left out."""
    lines = []
    for name in NAMED:
        finding = facts.findings[name]
        if finding.verdict.verdict != NOT_RUN:
            question = name if name.endswith("?") else f"{name}:"
            lines.append(f"- **{_capital(question)}** {_capital(finding.recommendation)}.")
    return "\n".join(lines)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
