"""What tuning does: more trials, choosing on validation or on test images, and one change of the recipe at a time.

``best_of`` is about trials; ``noise_maximum`` and ``select_on_noise`` about what choosing alone gives when there is
nothing to choose; ``paired`` compares two variants run by run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from petl_core import methods as registry
from petl_core.study.statistics import Interval, interval
from petl_core.utils import UserError
from petl_guide.runs import at_chance, common, group_order, runs

if TYPE_CHECKING:
    from petl_core.study.profile import Profile


def trials(table: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The tuning runs of the profile's tasks and methods with a column ``trial``, 1, 2, ... in the order of trying.

    A diverged trial counts at chance. Raises ``UserError`` naming the first trial that has no record.
    """
    from petl_core.study.protocol import trials_of

    found = table[(table["variant"] == "trial") & (table["stage"] == "trial")]
    found = found[found["task"].isin(profile.tasks) & found["method"].isin(profile.methods)]
    if found.empty:
        raise UserError("there are no tuning runs (variant 'trial') in the table; run the study's part 'tuned'")
    numbers = {}
    for method in profile.methods:
        for number, point in enumerate(trials_of(profile, method), start=1):
            hyper = json.dumps(registry.get(method, **point.hyper).hyper(), sort_keys=True)
            numbers[method, hyper, point.lr, point.drop_path] = number
    keys = zip(found["method"], found["hyper"], found["lr"], found["drop_path"], strict=True)
    found = found.assign(trial=[numbers.get(key, 0) for key in keys])
    found = found[found["trial"] > 0].sort_values(["task", "method", "trial"], ignore_index=True)
    present = set(zip(found["task"], found["method"], found["trial"], strict=True))
    for cell in itertools.product(profile.tasks, profile.methods, range(1, profile.trials + 1)):
        if cell not in present:
            task, method, number = cell
            raise UserError(f"trial {number} of {method} on {task} has no record; start the study again")
    if len(present) != len(found):
        raise UserError("some trials have several records; choose the rows of one backbone and one recipe")
    return at_chance(found)


def best_of(tried: pd.DataFrame) -> pd.DataFrame:
    """Methods x 1..K: the best validation accuracy of the first k trials, mean over tasks, from ``trials``."""
    wide = tried.pivot(index=["task", "method"], columns="trial", values="accuracy")
    if wide.isna().to_numpy().any():
        task, method = wide.index[wide.isna().any(axis=1)][0]
        raise UserError(f"{method} on {task} has fewer trials than others; this comparison needs equal budgets")
    return wide.cummax(axis=1).groupby("method").mean()


def noise_maximum(accuracy: float, images: int, choices: int) -> float:
    """Exact mean of the largest of ``choices`` measured accuracies (percent) when all are truly ``accuracy`` percent.

    Each is measured on n ``images`` of its own: E max = sum_{x=0}^{n-1} (1 - F(x)^k) / n, F the binomial distribution.
    """
    if not 0 <= accuracy <= 100 or images < 1 or choices < 1:
        raise UserError(f"accuracy is 0 to 100, images and choices 1 or more; got {accuracy}, {images}, {choices}")
    below = stats.binom.cdf(np.arange(images), images, accuracy / 100)
    return 100 * float((1 - below**choices).sum()) / images


def select_on_noise(accuracy: float, images: int, choices: int, repeats: int = 1000, seed: int = 0) -> np.ndarray:
    """A simulation of the same: ``repeats`` times the best of ``choices`` measurements of equal models, in percent.

    Nothing here was trained; the true accuracy is ``accuracy`` whatever is chosen, so what is above it is an illusion.
    """
    noise_maximum(accuracy, images, choices)  # the same checks
    random = np.random.default_rng(seed)
    return 100 * random.binomial(images, accuracy / 100, (repeats, choices)).max(axis=1) / images


def best_on_test(table: pd.DataFrame, variant: str = "best_on_test") -> pd.DataFrame:
    """Runs of this variant with ``inflation``: best epoch on test minus last epoch, in points (never negative)."""
    chosen = runs(table, variant)
    if chosen["best_accuracy"].isna().any():
        row = chosen[chosen["best_accuracy"].isna()].iloc[0]
        raise UserError(f"{row['method']} on {row['task']}, seed {row['seed']} was not tracked: it has no best epoch")
    return chosen.assign(inflation=chosen["best_accuracy"] - chosen["accuracy"])


def paired(table: pd.DataFrame, after: str, before: str, column: str = "accuracy") -> pd.DataFrame:
    """``after`` minus ``before`` (variants), in points, for each task, method and seed that both have: ``difference``.

    What only one of them has is left out. ``UserError`` if nothing pairs.
    """
    one, two = runs(table, after), runs(table, before)
    keys = ["group", "task", "method", "seed"]
    both = one[[*keys, column]].merge(two[[*keys, column]], on=keys, suffixes=("", "_before"))
    if both.empty:
        raise UserError(f"variants {after!r} and {before!r} have no task, method and seed in common")
    rank = {group: i for i, group in enumerate(group_order(both["group"]))}
    result = both[keys].assign(difference=both[column] - both[f"{column}_before"])
    result = result.assign(place=result["group"].map(rank)).sort_values(["place", "task", "method", "seed"])
    return result.drop(columns="place").reset_index(drop=True)


def sample(differences: pd.DataFrame) -> str:
    """What an interval of these ``paired`` differences is over: "tasks" where there are several, otherwise "seeds"."""
    return "tasks" if differences["task"].nunique() > 1 else "seeds"


def mean_difference(differences: pd.DataFrame, level: float = 0.95) -> Interval:
    """The mean of ``paired`` over methods, tasks and seeds, with its t interval.

    With several tasks these are the sample (all else is averaged first), so the interval says what other tasks of the
    same kind might show. With one task the seeds are.
    """
    unit = sample(differences)[:-1]
    return interval(differences.groupby(unit)["difference"].mean().to_numpy(), level)


def by_method(differences: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """``mean_difference`` for each method: columns method, difference, low, high, n."""
    return _summary(
        {str(method): mean_difference(part, level) for method, part in differences.groupby("method")}, "method"
    )


def _summary(means: Mapping[str, Interval], name: str) -> pd.DataFrame:
    rows = [(key, found.mean, found.low, found.high, found.n) for key, found in means.items()]
    return pd.DataFrame(rows, columns=[name, "difference", "low", "high", "n"])


def common_means(table: pd.DataFrame, variants: dict[str, str]) -> pd.DataFrame:
    """Mean accuracy of each method (rows) in each variant (columns, named by its value), the first one's best on top.

    Over the tasks and seeds, and for the methods, that all variants have.
    """
    found = common(*(runs(table, variant) for variant in variants))
    means = {name: f.groupby("method")["accuracy"].mean() for name, f in zip(variants.values(), found, strict=True)}
    return pd.DataFrame(means).sort_values(next(iter(means)), ascending=False)


def ingredients(table: pd.DataFrame, base: str, variants: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The effect of each variant against ``base``: ``variants`` maps names in ``table`` to readable ones.

    Returns the ``paired`` differences of all, with a column ``change``, and their means and intervals by ``change``.
    """
    parts = {text: paired(table, variant, base) for variant, text in variants.items()}
    differences = pd.concat([part.assign(change=text) for text, part in parts.items()], ignore_index=True)
    return differences, _summary({text: mean_difference(part) for text, part in parts.items()}, "change")


def after_k_trials(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Methods x 1..K: test accuracy, mean over tasks and seeds, of what the first k trials chose (trials_k)."""
    ks = range(1, most + 1)
    result = pd.DataFrame({k: runs(table, f"trials_{k}").groupby("method")["accuracy"].mean() for k in ks})
    if result.isna().to_numpy().any():
        raise UserError(
            f"variants trials_1 to trials_{most} cover different methods; run the part 'trials' for the same"
        )
    return result
