"""The answer of ``petl_core.compare``: a table, which methods are clearly worse, a recommendation, a file to ship."""

from __future__ import annotations

import html
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from petl_core import methods
from petl_core.compare import standing as paired
from petl_core.methods import title
from petl_core.models import adapters
from petl_core.study import execute
from petl_core.study.budget import Plan
from petl_core.study.records import Records, RunSpec, logits_digest
from petl_core.study.statistics import interval
from petl_core.training.train import train
from petl_core.utils import UserError, write_atomic

BEST, LEVEL_WITH, WORSE = "best", "not clearly worse", "clearly worse"


@dataclass(frozen=True)
class Comparison:
    """Methods compared on one task.

    ``table`` has a row for each, best first: method, accuracy with the ends of its 95 % interval over seeds (``low``,
    ``high``), ``params`` (trainable, without the head), ``seconds`` of a final run, ``setting``, ``difference`` to the
    best with ``from`` and ``to`` (all pairs together), and ``verdict``.
    """

    task: str
    classes: tuple[str, ...]
    sizes: dict[str, int]
    backbone: str
    plan: Plan
    trials: int
    seeds: int
    table: pd.DataFrame
    standing: paired.Standing
    constant: int  # the class of the constant answer: the most frequent one in training
    left_out: dict[str, str]
    finals: dict[str, list[RunSpec]]
    records: Records
    device: str
    temporary: Any = None  # keeps a temporary folder of records alive
    card: str = ""  # what was in the folder

    @property
    def best(self) -> str:
        """The most accurate method on the test images."""
        return str(self.table["method"].iloc[0])

    @property
    def level(self) -> list[str]:
        """The best method and those that are not clearly worse."""
        return list(self.table.loc[self.table["verdict"] != WORSE, "method"])

    @property
    def better_than_constant(self) -> bool:
        """Is the best method clearly better than always giving the same answer?"""
        return self.standing.over_constant[1] > 0

    @property
    def recommended(self) -> str | None:
        """The smallest of the methods that are not clearly worse than the best; None if nothing was learned."""
        if not self.better_than_constant:
            return None
        fit = self.table[self.table["verdict"] != WORSE]
        return str(fit.sort_values(["params", "difference"], ascending=[True, False])["method"].iloc[0])

    @property
    def recommendation(self) -> str:
        """One sentence."""
        over, low, high = self.standing.over_constant
        if self.recommended is None:
            return (
                f"No method is recommended: the best, {title(self.best)}, is not clearly better than always answering "
                f"'{self.classes[self.constant]}' ({over:+.1f} points [{low:+.1f}, {high:+.1f}]); check the labels, or "
                "give more images or time."
            )
        row = self.table.set_index("method").loc[self.recommended]
        size = f"{row['params']:,} trainable parameters besides the head"
        if self.recommended == self.best:
            if len(self.level) == 1:
                return f"Use {title(self.best)} ({size}): every other method is clearly worse."
            return f"Use {title(self.best)} ({size}): it is the most accurate, and no smaller method is level with it."
        return (
            f"Use {title(self.recommended)} ({size}): it is the smallest of the {len(self.level)} methods that are not "
            f"clearly worse than the best, {title(self.best)}; it is {row['difference']:+.1f} points from it "
            f"[{row['from']:+.1f}, {row['to']:+.1f}]."
        )

    @property
    def notes(self) -> list[str]:
        """What a reader of the table must know."""
        n = self.sizes
        lines = [
            f"{self.trials} trials for each method, chosen on {n['val200']} validation images; the choice trained on "
            f"{n['train1000']} images with {self.seeds} seed{'s' * (self.seeds > 1)} and tested on {n['test']}, once.",
            f"Always answering '{self.classes[self.constant]}' gives {self.standing.constant:.1f} %.",
            "Differences are paired over the test images; their intervals hold for all pairs together (95 %).",
        ]
        if self.seeds == 1:
            lines.append("One seed: the luck of training is in no interval here. Give more time.")
        if self.trials < self.plan.trials:
            lines.append(f"It went slower than planned: {self.trials} of {self.plan.trials} trials for each method.")
        if self.seeds < self.plan.seeds:
            lines.append(f"It went slower than planned: {self.seeds} of {self.plan.seeds} seeds.")
        lines += [f"Left out: {title(method)}, {why}." for method, why in self.left_out.items()]
        return lines

    def markdown(self) -> str:
        """The whole report as Markdown."""
        head = "| method | accuracy (%) | over seeds | trainable | seconds | setting | to the best | interval | |"
        lines = [
            f"# Which method for {self.task}?",
            "",
            f"**{self.recommendation}**",
            "",
            head,
            "|---|" + "--:|" * 4 + "---|--:|--:|---|",
        ]
        for _, row in self.table.iterrows():
            over = f"{row['low']:.1f} to {row['high']:.1f}" if math.isfinite(row["low"]) else "–"
            ends = f"{row['from']:+.1f} to {row['to']:+.1f}" if math.isfinite(row["from"]) else "–"
            mark = f"**{row['verdict']}, recommended**" if row["method"] == self.recommended else row["verdict"]
            lines.append(
                f"| {title(row['method'])} | {row['accuracy']:.1f} | {over} | {row['params']:,} | {row['seconds']:.1f} "
                f"| {row['setting']} | {row['difference']:+.1f} | {ends} | {mark} |"
            )
        lines += ["", *(f"- {line}" for line in self.notes), ""]
        lines = [html.escape(line, quote=False) for line in lines]
        if self.card:  # as code, in which neither HTML nor Markdown means anything
            lines += ["## The images", "", *(f"    {line}" for line in self.card.splitlines()), ""]
        return "\n".join(lines)

    def __str__(self) -> str:
        columns = ["method", "accuracy", "params", "seconds", "setting", "difference", "from", "to", "verdict"]
        text = self.table[columns].to_string(index=False, float_format=lambda v: f"{v:.1f}")
        return "\n".join([text, "", *self.notes, "", self.recommendation])

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def figure(self) -> Figure:
        """The difference of each method to the best against its size, with intervals; an open mark is clearly worse."""
        figure = Figure(figsize=(7.2, 1.3 + 0.34 * len(self.table)), dpi=100, layout="constrained")
        ax = figure.subplots()
        ax.axvline(0, color="black", lw=0.8)
        for y, (_, row) in enumerate(self.table[::-1].iterrows()):
            colour = f"C{y % 10}"
            if math.isfinite(row["from"]):
                ax.plot([row["from"], row["to"]], [y, y], color=colour, lw=1.8)
            face = "white" if row["verdict"] == WORSE else colour
            ax.plot(row["difference"], y, "o", color=colour, mfc=face, ms=8, mew=1.4)
        labels = [f"{title(m)}  {p:,}" for m, p in self.table[["method", "params"]].to_numpy()[::-1]]
        ax.set_yticks(range(len(labels)), labels)
        for label, method in zip(ax.get_yticklabels(), self.table["method"][::-1], strict=True):
            label.set_fontweight("bold" if method == self.recommended else "normal")
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.9", lw=0.7)
        ax.set(
            xlabel="points of test accuracy from the best method (open mark: clearly worse)",
            ylim=(-0.6, len(labels) - 0.4),
        )
        over = self.standing.over_constant[0]
        if -over > ax.get_xlim()[0]:
            ax.axvline(-over, color="grey", ls=":", lw=1)
        said = "No method is clearly better than always giving the same answer"
        if self.recommended is not None:
            level = f"{len(self.level)} of {len(self.table)} methods are not clearly worse than the best"
            said = f"{level}; the smallest: {title(self.recommended)}"
        ax.set_title(said, loc="left", fontsize=10)
        return figure

    def save_best(self, path: str | Path, method: str | None = None) -> Path:
        """Train the recommended method (or another of the table) again as its first final run, and write the model.

        The file holds what was trained, the classes and the measured accuracy: ``load_adapter(path).notes``. On a CPU
        the model's test predictions are compared with the record's. Raises ``UserError`` if nothing is recommended.
        """
        chosen = method or self.recommended
        if chosen is None:
            raise UserError(
                f"{self.recommendation} To keep a model all the same, name its method: save_best(path, 'lora')"
            )
        if chosen not in self.finals:
            raise UserError(f"method '{chosen}' is not in the table; it has: {', '.join(self.finals)}")
        path = Path(path)
        if path.suffix != ".safetensors" or not path.parent.is_dir():
            raise UserError(f"cannot write {path}: the name must end in .safetensors, in a folder that is there")
        spec = self.finals[chosen][0]
        record = self.records.get(spec)
        threads = torch.get_num_threads()
        try:
            if self.device == "cpu":
                torch.set_num_threads(1)  # as in the run that was measured, for the same bits
            model = execute.build(spec, self.device)
            task = execute.task_of(spec)
            run = train(model, task, spec.recipe, seed=spec.seed, train_on=spec.train_on, evaluate_on=spec.evaluate_on)
        finally:
            torch.set_num_threads(threads)
        row = self.table.set_index("method").loc[chosen]
        notes = {
            "classes": list(self.classes),
            "task": self.task,
            "setting": setting(spec),
            "test_accuracy": run.accuracy,
            "mean_test_accuracy": float(row["accuracy"]),
            "seeds": self.seeds,
            "test_images": self.sizes["test"],
            "image_size": task.image_size,
            "preparation": vars(task.preparation),
            "same_predictions_as_record": logits_digest(run.logits) == record["logits_sha256"],
        }
        return adapters.save_adapter(model.cpu(), path, notes)

    def write(self, folder: str | Path) -> list[Path]:
        """``report.md``, ``table.csv`` and ``figure.png`` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        self.figure().savefig(picture, format="png", metadata={"Software": None})
        contents = {
            "report.md": self.markdown().encode(),
            "table.csv": self.table.to_csv(index=False).encode(),
            "figure.png": picture.getvalue(),
        }
        return [write_atomic(folder / name, content) for name, content in contents.items()]


def rows_of(finals: dict[str, list[RunSpec]], records: Records, order: pd.DataFrame) -> pd.DataFrame:
    """``Comparison.table`` from the final runs of each method and the rows of their ``standing``."""
    rows = []
    for _, row in order.iterrows():
        specs = finals[row["method"]]
        found = [records.get(spec) for spec in specs]
        seeds = interval([record["metrics"]["accuracy"] for record in found])
        verdict = LEVEL_WITH
        if math.isnan(row["low"]):
            verdict = BEST
        elif row["high"] < 0:
            verdict = WORSE
        rows.append(
            {
                "method": row["method"],
                "accuracy": seeds.mean,
                "low": seeds.low,
                "high": seeds.high,
                "params": found[0]["metrics"]["params"],
                "seconds": float(np.mean([record["seconds"] for record in found])),
                "setting": setting(specs[0]),
                "difference": row["difference"],
                "from": row["low"],
                "to": row["high"],
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def setting(spec: RunSpec) -> str:
    """What was chosen for a method, in short: hyper-parameters that differ from its defaults or set its size."""
    cls = methods.registry[spec.method]
    default = methods.get(spec.method).hyper()
    named = {k: v for k, v in spec.hyper.items() if k == cls.size_field or v != default[k]}
    parts = [f"{k} {v if isinstance(v, (int, float, str)) else json.dumps(v)}" for k, v in named.items()]
    parts.append(f"lr {spec.recipe.lr:g}")
    if spec.recipe.drop_path:
        parts.append(f"drop path {spec.recipe.drop_path:g}")
    return ", ".join(parts)
