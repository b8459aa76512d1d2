"""The README's picture and paragraph: accuracy of every method, and what it comes to, with its numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pandas as pd

from book.pages.claims import by_word
from petl_guide import accuracy, published
from petl_guide import runs as select
from petl_guide.facts import Facts
from petl_guide.figures import low_shot as figures
from petl_guide.figures.style import Shown, show, title
from petl_guide.low_shot import similar

CLOSE = 2.0  # points; "near the best" in the title


@dataclass(frozen=True)
class _Order:
    """The tuned runs' means by group, and the PEFT methods from best to worst."""

    runs: pd.DataFrame

    @functools.cached_property
    def by_group(self) -> pd.DataFrame:
        return accuracy.by_group(self.runs)

    @functools.cached_property
    def means(self) -> pd.Series:
        return self.by_group[self.by_group["group"] == accuracy.MEAN].set_index("method")["mean"]

    @functools.cached_property
    def peft(self) -> list[str]:
        return select.peft(accuracy.order(self.runs))


@functools.lru_cache(maxsize=1)
def picture(facts: Facts) -> Shown:
    """Accuracy of every method in each group, with intervals over seeds."""
    found = _Order(facts.tuned)
    near = [m for m in found.peft if found.means[found.peft[0]] - found.means[m] <= CLOSE]
    message = f"{len(near)} of {len(found.peft)} PEFT methods lie within {CLOSE:g} points of the best one"
    alt = (
        "Dots with 95 % intervals over seeds: test accuracy of each method on natural, specialised and structured "
        f"tasks and the mean of the groups. {message}."
    )
    return show(figures.accuracy_by_group(found.by_group, message), alt)


@functools.lru_cache(maxsize=1)
def paragraphs(facts: Facts) -> str:
    """What the picture shows, and how the study's claims come out, wrapped at 120 characters."""
    return "\n".join([*wrapped(_accuracy(facts)), "", *wrapped(_claims(facts))])


def _accuracy(facts: Facts) -> str:
    tuned, plan, found = facts.tuned, facts.results.profile, _Order(facts.tuned)
    means, peft = found.means, found.peft
    ranked = means.sort_values(ascending=False)
    _, parts = similar.methods_and_seeds(tuned[tuned["method"].isin(peft)])
    counted = published.counted(peft)
    _, rest = similar.methods_and_seeds(tuned[tuned["method"].isin(counted)])
    place = list(ranked.index).index("full") + 1
    return (
        f"{len(means)} methods on {tuned['task'].nunique()} tasks with {plan.trials} tuning trials each and "
        f"{len(plan.seeds)} seeds (profile {plan.name}, backbone `{plan.backbone}`). The best PEFT method is "
        f"{title(peft[0])} with {means[peft[0]]:.1f} %, the last {title(peft[-1])} with {means[peft[-1]]:.1f} %; full "
        f"fine-tuning reaches {means['full']:.1f} % (place {place} of {len(ranked)}) and linear probing "
        f"{means['linear']:.1f} %. PEFT methods differ by {parts.method:.1f} points (standard deviation, seed noise "
        f"removed; {rest.method:.1f} among the {len(counted)} that the study counts), two runs of one method by "
        f"{parts.seed:.1f}. Pictures are small and runs short ({plan.final.epochs} epochs): chapter 4 has the tests, "
        "longer runs as a control, and the published numbers beside these."
    )


def _claims(facts: Facts) -> str:
    said = ", ".join(f"{len(its)} {word} ({', '.join(its)})" for word, its in by_word(facts.ours).items())
    count = len(facts.ours)
    return f"Of the {count} claims of the study these records find {said}; chapter 12 has effects and intervals."


def wrapped(text: str, width: int = 120) -> list[str]:
    """The text in lines shorter than ``width``, broken at spaces only."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
