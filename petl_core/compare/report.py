"""The answer of ``petl_core.compare``: which method to use, how sure that is, the table behind it, files to ship."""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from petl_core import methods
from petl_core.compare import models
from petl_core.compare.contest import MARGIN, climbing
from petl_core.compare.metrics import Quality, quality
from petl_core.compare.page import page, summary
from petl_core.compare.standing import Standing, standing
from petl_core.data.task import Task
from petl_core.methods import title
from petl_core.study.budget import clock
from petl_core.study.predictions import Predictions, load, softmax
from petl_core.study.records import Records, RunSpec
from petl_core.study.statistics import interval
from petl_core.utils import UserError, write_atomic

BEST, AS_GOOD, UNCLEAR, WORSE = "best", "as good", "cannot tell", "worse"
BEHIND, NOT_LEARNED = "behind on validation", "has not learned"
COLUMNS = ["method", "accuracy", "low", "high", "validation", "params", "seconds", "setting"]
COLUMNS += ["difference", "from", "to", "may_lose", "verdict"]
APART = 5.0  # points between validation and test that are said, where noise alone does not explain them


@dataclass(frozen=True)
class Comparison:
    """Methods compared on one task.

    ``table`` has a row for each method, best first: accuracy on test with the ends of its 95 % interval over seeds,
    ``validation`` accuracy of its choice, ``params`` (trainable, without the head), ``seconds`` of a final run,
    ``setting``, ``difference`` to the best with ``from`` and ``to``, ``may_lose`` (the most that it may be behind any
    other; all pairs together), and ``verdict``. Methods that were not tested, or have not learned, stand last.
    """

    task: Task
    backbone: str
    table: pd.DataFrame
    standing: Standing
    predictions: Predictions
    constant: int  # the class of the constant answer: the most frequent one in training
    finals: dict[str, list[RunSpec]]
    records: Records
    device: str
    margin: float = MARGIN
    seconds: float = math.nan  # that it took
    budget: float = math.nan
    card: str = ""  # what a look at the images found
    command: str = ""  # that repeats it
    temporary: Any = None  # keeps a temporary folder of records alive

    @property
    def best(self) -> str:
        """The most accurate method on the test images, of those that have learned."""
        return str(self.table["method"].iloc[0])

    @property
    def sizes(self) -> dict[str, int]:
        """Images in each split."""
        return {split: len(index) for split, index in self.task.splits.items()}

    @property
    def level(self) -> list[str]:
        """The methods that are not worse than any other by more than the margin."""
        return list(self.table.loc[self.table["verdict"].isin([BEST, AS_GOOD]), "method"])

    @property
    def better_than_constant(self) -> bool:
        """Is the best method clearly better than always giving the same answer?"""
        return self.standing.over_constant[1] > 0

    @property
    def sure(self) -> bool:
        """Is the recommended method at most the margin behind any other, at 95 %?"""
        return self.recommended in self.level

    @property
    def recommended(self) -> str | None:
        """The smallest of the methods that are at most the margin behind any other; where none is known to be, the most
        accurate one, for the time being (``sure`` is then False). None if nothing was learned."""
        if not self.better_than_constant or self.row(self.best)["verdict"] == NOT_LEARNED:
            return None
        fit = self.table[self.table["method"].isin(self.level)]
        if fit.empty:
            return self.best
        return str(fit.sort_values(["params", "difference"], ascending=[True, False])["method"].iloc[0])

    @property
    def recommendation(self) -> str:
        """The answer in words."""
        over, low, high = self.standing.over_constant
        n, chosen = len(self.predictions.labels), self.recommended
        if chosen is None:
            return (
                f"No method is recommended: the best, {title(self.best)}, is not clearly better than always answering "
                f"'{self.task.classes[self.constant]}' ({over:+.1f} points [{low:+.1f}, {high:+.1f}]). Check the "
                "labels, or give more images or time."
            )
        row = self.row(chosen)
        size = f"{int(row['params']):,} trained parameters besides the head"
        if not self.sure:
            needed = n * (row["may_lose"] / self.margin) ** 2
            return (
                f"We cannot tell which is best. For now, use {title(chosen)} ({size}): it was the most accurate here, "
                f"but another may be up to {row['may_lose']:.1f} points better. About {_about(needed)} test images "
                f"instead of {n:,}, or more seeds (there were {self.standing.seeds}), would tell to {self.margin:g} "
                "points."
            )
        text = f"Use {title(chosen)} ({size})."
        if chosen == self.best:
            return f"{text} It is the most accurate, and no smaller method is known to be as good."
        return (
            f"{text} It is the smallest of the {len(self.level)} methods that are as good as any other to "
            f"{self.margin:g} points; the most accurate, {title(self.best)}, is {-row['difference']:.1f} points ahead."
        )

    @property
    def notes(self) -> list[str]:
        """What a reader of the table must know."""
        n, found = self.sizes, self.quality
        lengths = sorted({spec.recipe.epochs for specs in self.finals.values() for spec in specs})
        epochs = " or ".join(_counted(length, "epoch") for length in lengths)
        lines = [
            f"Chosen on {n['val200']:,} validation images, trained again on {n['train1000']:,} for "
            f"{epochs} with {_counted(self.standing.seeds, 'seed')}, and tested on "
            f"{n['test']:,}, once.",
            f"{title(self.best)}: balanced accuracy {found.balanced.mean:.1f} [{found.balanced.low:.1f}, "
            f"{found.balanced.high:.1f}], macro F1 {found.macro_f1.mean:.1f}; always answering "
            f"'{self.task.classes[self.constant]}' gives {self.standing.constant:.1f} % accuracy.",
            f"Its confidence is off by {found.ece:.1f} points on average (ECE); dividing its logits by "
            f"{found.temperature:.2f} leaves {found.ece_after:.1f}.",
        ]
        if self.standing.seeds == 1:
            lines.append("One seed: the luck of training is in no interval here. More time buys more seeds.")
        row = self.row(self.best)
        gap, p = row["validation"] - row["accuracy"], row["accuracy"] / 100
        noise = 300 * math.sqrt(max(p * (1 - p), 0.01) * (1 / n["val200"] + 1 / n["test"]))
        if abs(gap) > APART + noise:
            lines.append(
                f"Validation and test fall apart: {row['validation']:.1f} % and {row['accuracy']:.1f} %. The test "
                "images differ from the others (another time, place or person?), so new images may too."
            )
        if (gain := self.ensemble_gain) > 0:
            lines.append(f"All tested models together (mean of probabilities) are {gain:.1f} points better.")
        return lines

    @functools.cached_property
    def quality(self) -> Quality:
        """Of the best method: intervals, recall by class, confusion, calibration."""
        part = self.predictions.of([self.best])
        return quality(part.logits, part.labels)

    @property
    def ensemble_gain(self) -> float:
        """Points that the mean of all tested models' probabilities is ahead of the best method, where it clearly is (by
        the images, two standard errors); else 0."""
        ranked = [method for method in self.finals if self.row(method)["verdict"] not in (NOT_LEARNED, WORSE)]
        every = self.predictions.of(ranked or [self.best])
        together = softmax(every.logits).mean(axis=0).argmax(axis=1) == every.labels
        gains = together - self.predictions.of([self.best]).correct.mean(axis=0)
        error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
        return 100 * float(gains.mean()) if gains.mean() > 2 * error else 0.0

    @property
    def took(self) -> str:
        """How long it took, and of what time."""
        return f"{clock(self.seconds)} of {clock(self.budget)}" if math.isfinite(self.budget) else "some time"

    def row(self, method: str) -> pd.Series:
        """The row of a method."""
        return self.table.set_index("method").loc[method]

    def __str__(self) -> str:
        shown = self.table[["method", "accuracy", "difference", "from", "to", "params", "setting", "verdict"]]
        text = shown.to_string(index=False, float_format=lambda v: f"{v:.1f}", na_rep="–")
        return "\n".join([self.recommendation, "", text, "", *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return summary(self)

    def figure(self) -> Figure:
        """Accuracy of the tested methods, with intervals over seeds, against what they train."""
        figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
        ax = figure.subplots()
        tested = self.table[self.table["accuracy"].notna()]
        for _, row in tested.iterrows():
            cost, colour = max(int(row["params"]), 1), "C1" if row["method"] == self.recommended else "0.35"
            if math.isfinite(row["low"]):
                ax.plot([cost, cost], [max(row["low"], 0), min(row["high"], 100)], color=colour, lw=1.6)
            ax.plot(cost, row["accuracy"], "o", color=colour, ms=7)
            ax.annotate(title(row["method"]), (cost, row["accuracy"]), (7, 4), textcoords="offset points", color=colour)
        ax.axhline(self.standing.constant, color="0.6", ls=":", lw=1)
        ax.set_xscale("log")
        ax.set(xlabel="trained parameters besides the head", ylabel="test accuracy, %")
        named = f"recommended: {title(self.recommended)}" if self.recommended else "no method is recommended"
        ax.set_title(f"What accuracy costs; {named}", loc="left", fontsize=10)
        ax.margins(x=0.2)
        ax.spines[["top", "right"]].set_visible(False)
        return figure

    def facts(self) -> dict[str, Any]:
        """What goes into the files of models."""
        return self.task.notes | {"task": self.task.name, "backbone": self.backbone}

    def models(self, method: str) -> tuple[Path, Path]:
        """Below the records, the model of a method that was tested, and one trained on all images in the same way."""
        row, spec = self.row(method), self.finals[method][0]
        told = {"setting": row["setting"], "mean_test_accuracy": float(row["accuracy"]), "seeds": self.standing.seeds}
        told |= {"test_images": len(self.predictions.labels)}
        return models.keep(spec, self.records, self.device, self.facts() | told)

    def save_best(self, path: str | Path, method: str | None = None) -> Path:
        """Write the recommended method's model (or that of another) as it was tested, and beside it, with "-all" in its
        name, one trained in the same way on all images; returns the first path.

        The file holds what was trained, the classes and the measured accuracy: ``load_adapter(path).notes``.
        Raises ``UserError`` if nothing is recommended, the method was not tested, or the file cannot be written.
        """
        chosen = method or self.recommended
        if chosen is None:
            raise UserError(
                f"{self.recommendation} To keep a model all the same, name its method: save_best(path, 'lora')"
            )
        if chosen not in self.finals:
            raise UserError(f"method '{chosen}' was not tested; these were: {', '.join(self.finals)}")
        path = Path(path)
        if path.suffix != ".safetensors" or not path.parent.is_dir():
            raise UserError(f"cannot write {path}: the name must end in .safetensors, in a folder that is there")
        for source, target in zip(self.models(chosen), (path, path.with_stem(path.stem + models.ALL)), strict=True):
            write_atomic(target, source.read_bytes())
        return path

    def write(self, folder: str | Path) -> list[Path]:
        """``report.html``, ``table.csv`` and ``figure.png`` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        self.figure().savefig(picture, format="png", metadata={"Software": None})
        contents = {
            "report.html": page(self).encode(),
            "table.csv": self.table.to_csv(index=False).encode(),
            "figure.png": picture.getvalue(),
        }
        return [write_atomic(folder / name, content) for name, content in contents.items()]


def compared(
    task: Task,
    finals: dict[str, list[RunSpec]],
    records: Records,
    tried: Mapping[str, tuple[float, str]],
    device: str,
) -> Comparison:
    """The comparison of final runs; ``tried``: of each method the validation accuracy and why it is out, if it is."""
    columns = ("task", "method", "seed", "digest", "diverged")
    runs = [(task.name, method, s.seed, s.digest, False) for method, specs in finals.items() for s in specs]
    predictions = load(records, pd.DataFrame(runs, columns=columns))
    labels = task.split("train1000")[1]
    constant = int(torch.bincount(labels, minlength=task.num_classes).argmax())
    always = 100 * float(np.mean(predictions.labels == constant))
    failed = {method: why for method, specs in finals.items() if (why := _not_learned(specs, records, always))}
    learned = [method for method in finals if method not in failed]
    order = standing(predictions.of(learned or list(finals)), constant)
    rows = [_row(finals[row["method"]], records, tried[row["method"]][0], row) for _, row in order.table.iterrows()]
    if not learned:
        rows = [{**row, "verdict": NOT_LEARNED} for row in rows]
        failed = {}
    none = pd.Series(dict.fromkeys(["difference", "low", "high", "may_lose"], math.nan))
    rows += [
        {**_row(finals[method], records, tried[method][0], none), "verdict": f"{NOT_LEARNED}: {why}"}
        for method, why in failed.items()
    ]
    rows += [
        {"method": method, "validation": accuracy, "verdict": out or BEHIND}
        for method, (accuracy, out) in tried.items()
        if method not in finals
    ]
    table = pd.DataFrame(rows, columns=COLUMNS).replace({-math.inf: math.nan})
    backbone = next(iter(finals.values()))[0].backbone
    return Comparison(task, backbone, table, order, predictions, constant, finals, records, device)


def _row(specs: list[RunSpec], records: Records, validation: float, row: pd.Series) -> dict[str, Any]:
    """A row of ``Comparison.table`` for a method with final runs; ``row``: its row in the standing."""
    found = [records.get(spec) for spec in specs]
    seeds = interval([record["metrics"]["accuracy"] for record in found])
    verdict = UNCLEAR
    if row["may_lose"] < MARGIN:
        verdict = BEST if math.isnan(row["low"]) else AS_GOOD
    elif row["high"] < 0:
        verdict = WORSE
    return {
        "method": specs[0].method,
        "accuracy": seeds.mean,
        "low": max(seeds.low, 0.0),
        "high": min(seeds.high, 100.0),
        "validation": validation,
        "params": found[0]["metrics"]["params"],
        "seconds": float(np.mean([record["seconds"] for record in found])),
        "setting": setting(specs[0]),
        "difference": row["difference"],
        "from": row["low"],
        "to": row["high"],
        "may_lose": row["may_lose"],
        "verdict": verdict,
    }


def _not_learned(specs: list[RunSpec], records: Records, always: float) -> str:
    """Why a method has not learned; "" if it has. ``always``: accuracy of the constant answer."""
    found = [records.get(spec) for spec in specs]
    if all(climbing([entry["train_accuracy"] for entry in record["history"]]) for record in found):
        return "its training accuracy was still climbing"
    if np.mean([record["metrics"]["accuracy"] for record in found]) <= always:
        return "it is not above the constant answer"
    return ""


def setting(spec: RunSpec) -> str:
    """What was chosen for a method, in short: hyper-parameters that differ from its defaults or set its size."""
    cls = methods.registry[spec.method]
    default = methods.get(spec.method).hyper()
    named = {k: v for k, v in spec.hyper.items() if k == cls.size_field or v != default[k]}
    parts = [f"{k} {v if isinstance(v, (int, float, str)) else json.dumps(v)}" for k, v in named.items()]
    return ", ".join([*parts, f"lr {spec.recipe.lr:g}", _counted(spec.recipe.epochs, "epoch")])


def _about(count: float) -> str:
    """A number rounded to one digit: "4,000"."""
    return f"{int(float(f'{count:.0e}')):,}"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
