"""The README's picture and paragraph: accuracy of every method, and what it comes to, with its numbers."""

from __future__ import annotations

import functools
import textwrap

import pandas as pd

from book.pages.claims import COUNTED, NAMES, by_word
from petl_guide import accuracy, published
from petl_guide import runs as select
from petl_guide.facts import Facts
from petl_guide.figures import low_shot as figures
from petl_guide.figures.style import Shown, show, title
from petl_guide.low_shot import variance

CLOSE = 2.0  # points; "near the best" in the title


def ranking(facts: Facts) -> tuple[pd.Series, list[str]]:
    """The mean accuracy of each method over the groups, best first, and the PEFT methods in that order."""
    table = accuracy.by_group(facts.tuned)
    means = table[table["group"] == accuracy.MEAN].set_index("method")["mean"]
    return means.sort_values(ascending=False), select.peft(accuracy.order(facts.tuned))


@functools.lru_cache(maxsize=1)
def picture(facts: Facts) -> Shown:
    """Accuracy of every method in each group, with intervals over seeds."""
    means, peft = ranking(facts)
    near = [method for method in peft if means[peft[0]] - means[method] <= CLOSE]
    message = f"{len(near)} of {len(peft)} PEFT methods lie within {CLOSE:g} points of the best one"
    alt = (
        "Dots with 95 % intervals over seeds: test accuracy of each method on natural, specialised and structured "
        f"tasks and the mean of the groups. {message}."
    )
    return show(figures.accuracy_by_group(accuracy.by_group(facts.tuned), message), alt)


@functools.lru_cache(maxsize=1)
def paragraphs(facts: Facts) -> str:
    """What the picture shows, and how the study's claims come out, wrapped at 120 characters."""
    lines = textwrap.TextWrapper(120, break_long_words=False, break_on_hyphens=False)
    return f"{lines.fill(_accuracy(facts))}\n\n{lines.fill(_claims(facts))}"


def _accuracy(facts: Facts) -> str:
    tuned, profile = facts.tuned, facts.results.profile
    means, peft = ranking(facts)
    parts = variance.components(tuned[tuned["method"].isin(peft)])
    counted = published.counted(peft)
    rest = variance.components(tuned[tuned["method"].isin(counted)])
    place = list(means.index).index("full") + 1
    return (
        f"{len(means)} methods on {tuned['task'].nunique()} tasks with {profile.trials} tuning trials each and "
        f"{len(profile.seeds)} seeds (profile {profile.name}, backbone `{profile.backbone}`). The best PEFT method is "
        f"{title(peft[0])} with {means[peft[0]]:.1f} %, the last {title(peft[-1])} with {means[peft[-1]]:.1f} %; full "
        f"fine-tuning reaches {means['full']:.1f} % (place {place} of {len(means)}) and linear probing "
        f"{means['linear']:.1f} %. PEFT methods differ by {parts.method:.1f} points (standard deviation, seed noise "
        f"removed; {rest.method:.1f} among the {len(counted)} that the study counts), two runs of one method by "
        f"{parts.seed:.1f}. Pictures are small and runs short ({profile.final.epochs} epochs): chapter 4 has the "
        "tests, longer runs as a control, and the published numbers beside these."
    )


def _claims(facts: Facts) -> str:
    lists = [f"{len(COUNTED)} claims of the study can be measured."]
    for source, verdicts in facts.verdicts.items():
        said = ", ".join(f"{len(its)} {word} ({', '.join(its)})" for word, its in by_word(verdicts).items())
        lists.append(f"On {NAMES[source]} they come to {said}.")
    return " ".join([*lists, "Chapter 12 has effects and intervals."])
