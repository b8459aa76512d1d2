"""Things to play with in a notebook: sites, parameter counts, and the rank and scale of a learned update.

An ``Explorer`` is a function from a few choices to an ``Answer`` (text and perhaps a figure). With a live kernel,
``widget()`` puts menus and sliders on it; without one, ``static()`` shows the same answers for a few choices, and
``offline()`` computes all of them for a figure that works in the built book.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from torch import Tensor

import petl_core as pc
from petl_core.methods import get, names
from petl_core.models.build import Model
from petl_core.study.predictions import Predictions
from petl_core.training.train import accuracy, predict
from petl_core.vit import ViT, ViTConfig
from petl_guide.anatomy import STATIONS, attachment, part_of, sites_figure
from petl_guide.examine import trace
from petl_guide.figures.tables import Table
from petl_guide.interactive import charts
from petl_guide.interactive.offline import Chart, Offline
from petl_guide.mistakes import ensembles


@dataclass(frozen=True)
class Answer:
    """What an explorer says to one choice: numbers by name, a sentence, and perhaps a figure."""

    values: Mapping[str, Any]
    text: str
    figure: Callable[[], Figure] | None = None


@dataclass(frozen=True)
class Explorer:
    """``controls`` maps each choice to its allowed values, ``default`` to the one shown first."""

    controls: Mapping[str, Sequence[Any]]
    default: Mapping[str, Any]
    answer_to: Callable[..., Answer]
    chart: Chart | None = None  # of all answers, for ``offline``

    def answer(self, **choice: Any) -> Answer:
        """The answer to ``choice``; what is not chosen keeps its default. ValueError for a value not on offer."""
        for key, value in choice.items():
            if key not in self.controls:
                raise ValueError(f"no control '{key}'; there are: {', '.join(self.controls)}")
            if value not in self.controls[key]:
                raise ValueError(f"{key}={value!r} is not on offer; choose one of {list(self.controls[key])}")
        return self.answer_to(**{**self.default, **choice})

    def answers(self, choices: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
        """A row for each choice: the controls, the answer's values, and its sentence (column ``text``)."""
        rows = []
        for choice in choices:
            answer = self.answer(**choice)
            chosen = {key: choice.get(key, self.default[key]) for key in self.controls}
            rows.append({**chosen, **answer.values, "text": answer.text})
        return pd.DataFrame(rows)

    def static(self, *others: Mapping[str, Any]) -> pd.DataFrame:
        """One row of values for the default and for each other choice: what a reader without widgets sees."""
        return self.answers([{}, *others]).drop(columns="text")

    def offline(self, name: str, shown: Table, alt: str, **only: Sequence[Any]) -> Offline:
        """The answers to all choices, for the book: ``shown`` is the table for readers without JavaScript, ``alt`` says
        what the picture shows, and ``only`` offers fewer values of a control (one value: no control)."""
        if self.chart is None:
            raise pc.UserError(
                f"the explorer of {', '.join(self.controls)} has no chart; give it one: Explorer(chart=...)"
            )
        controls = {**self.controls, **only}
        choices = [dict(zip(controls, choice, strict=True)) for choice in itertools.product(*controls.values())]
        return Offline(name, controls, self.default, self.answers(choices), self.chart, shown, alt)

    def _show(self, **choice: Any) -> None:
        answer = self.answer(**choice)
        display(Markdown(answer.text))
        if answer.figure is not None:
            figure = answer.figure()
            display(figure)
            plt.close(figure)

    def widget(self) -> widgets.VBox:
        """Menus (for names) and sliders (for numbers) above the answer."""
        made: dict[str, widgets.Widget] = {}
        for key, values in self.controls.items():
            kind = widgets.Dropdown if isinstance(values[0], str) else widgets.SelectionSlider
            made[key] = kind(options=list(values), value=self.default[key], description=key)
        return widgets.VBox([widgets.HBox(list(made.values())), widgets.interactive_output(self._show, made)])


def site_explorer(vit: ViT, images: Tensor, colour: str = "#d1495b") -> Explorer:
    """Choose a site: what passes there, in which shape, after which parameters, and which methods act there."""
    shapes = {step.site: step for step in trace(vit, images)}
    sites = [station.name for station in STATIONS if station.kind == "site"]
    acting: dict[str, list[str]] = {site: [] for site in sites}
    for name in names():
        for site in attachment(get(name)).sites:
            acting[site].append(get(name).title)
    counts: dict[str, int] = {}
    for name, parameter in vit.named_parameters():
        if not name.startswith(("blocks", "methods")) or name.startswith("blocks.0."):
            counts[part_of(name)] = counts.get(part_of(name), 0) + parameter.numel()

    def answer_to(site: str) -> Answer:
        index = next(i for i, s in enumerate(STATIONS) if s.kind == "site" and s.name == site)
        box = next((s for s in reversed(STATIONS[:index]) if s.kind == "box"), None)
        owned = counts.get(box.name, 0) if box else 0
        step = shapes[site]
        values = {"x": step.x, "y": step.y, "parameters before it": owned, "methods": ", ".join(acting[site]) or "none"}
        text = (
            f"**{site}** — an edit here receives x {step.x} and y {step.y}. The operation just before it owns "
            f"{owned:,} parameters. Methods that act here: {values['methods']}."
        )
        return Answer(values, text, lambda: sites_figure({site: colour}))

    return Explorer({"site": sites}, {"site": "qkv"}, answer_to, charts.sites)


SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def count_explorer(backbones: Mapping[str, ViTConfig]) -> Explorer:
    """Choose a backbone, a method and its size: how many parameters train, and how large the saved file is."""

    def answer_to(backbone: str, method: str, size: int) -> Answer:
        config = backbones[backbone]
        field = get(method).size_field
        try:
            chosen = get(method, **{field: size}) if field else get(method)
        except ValueError as error:
            return Answer({"trained": math.nan}, f"There is no such size: {error}.")
        count, total = chosen.count(config), _backbone_size(config)
        values = {"trained": count, "% of backbone": 100 * count / total, "MB saved (fp32)": count * 4 / 1e6}
        note = f"{field} {size}" if field else "no size to choose"
        text = (
            f"**{chosen.title}** ({note}) on {backbone}: **{count:,}** trained parameters, "
            f"{values['% of backbone']:.3g} % of the backbone's {total:,}; {values['MB saved (fp32)']:.2f} MB on disk."
        )
        return Answer(values, text)

    first = next(iter(backbones))
    controls: dict[str, Sequence[Any]] = {"backbone": list(backbones), "method": names(), "size": list(SIZES)}
    return Explorer(controls, {"backbone": first, "method": "lora", "size": 8}, answer_to, charts.counts)


@functools.cache
def _backbone_size(config: ViTConfig) -> int:
    with torch.device("meta"):
        vit = ViT(config, num_classes=1)
    return sum(p.numel() for name, p in vit.named_parameters() if not name.startswith("head"))


class LearnedUpdate:
    """What tuning did to the weights of a mergeable model: W_tuned - W_pretrained, and the singular values of each."""

    def __init__(self, tuned: Model) -> None:
        self.model = pc.merge(tuned).eval()
        start = pc.merge(pc.interpolate(tuned, 0.0))
        self.start = {n: p.detach().clone() for n, p in start.named_parameters() if not n.startswith("head.")}
        own = dict(self.model.named_parameters())
        self.delta = {n: own[n].detach() - p for n, p in self.start.items() if not torch.equal(own[n], p)}
        self.factors = {n: torch.linalg.svd(d, full_matrices=False) for n, d in self.delta.items() if d.ndim == 2}

    def spectrum(self, name: str) -> Tensor:
        """Singular values of one matrix's update, largest first."""
        return self.factors[name].S

    @torch.no_grad()
    def apply(self, rank: int | None, scale: float) -> ViT:
        """The model with each matrix's update cut to its ``rank`` leading directions (None: all), times ``scale``."""
        own = dict(self.model.named_parameters())
        for name, delta in self.delta.items():
            if name in self.factors and rank is not None:
                u, s, vh = self.factors[name]
                delta = (u[:, :rank] * s[:rank]) @ vh[:rank]
            own[name].copy_(self.start[name] + scale * delta)
        return self.model


def ensemble_picker(found: Mapping[str, Predictions], methods: Sequence[str]) -> Explorer:
    """Choose a task, up to three of ``methods``, a seed or all, and how to combine: the ensemble beside its members."""
    seeds = sorted({int(seed) for part in found.values() for seed in part.runs["seed"]})
    if not methods:
        raise pc.UserError("an ensemble needs methods to choose from; give one or more")

    def answer_to(task: str, first: str, second: str, third: str, seed: str, how: str) -> Answer:
        chosen = [method for method in dict.fromkeys((first, second, third)) if method != "none"]
        here = [method for method in chosen if method in set(found[task].runs["method"])]
        if not here:
            return Answer({"members": 0}, f"{' and '.join(chosen)} diverged on {task}.")
        part = found[task].of(here, None if seed == "all" else [int(seed)])
        single = 100 * part.correct.mean(axis=1)
        together = ensembles.accuracy(ensembles.combine(part.logits, how), part.labels)
        values = {"members": len(part), "mean member": single.mean(), "best member": single.max(), "ensemble": together}
        text = (
            f"{task}: {len(part)} runs of {', '.join(get(m).title for m in here)}: single {single.min():.1f} to "
            f"{single.max():.1f} %, together **{together:.1f} %** ({together - single.mean():+.1f} on their mean)."
        )
        return Answer(values, text)

    some = ["none", *methods]
    controls: dict[str, Sequence[Any]] = {"task": list(found), "first": list(methods), "second": some, "third": some}
    controls |= {"seed": [*map(str, seeds), "all"], "how": list(ensembles.HOW)}
    default = {"task": next(iter(found)), "first": methods[0], "second": methods[-1], "third": "none"}
    return Explorer(controls, default | {"seed": str(seeds[0]), "how": "logit"}, answer_to, charts.pairs)


def update_explorer(tuned: Model, task: pc.Task, ranks: Sequence[int], images: int = 500) -> Explorer:
    """Choose how many directions of the learned update to keep, and how strongly to apply them: test accuracy, live."""
    update = LearnedUpdate(tuned)
    pictures, truth, _ = task.split("test")
    pictures, labels = pictures[:images], truth[:images].numpy()
    norm = math.hypot(*(update.start[n].norm().item() for n in update.factors))

    def answer_to(rank: int, scale: float) -> Answer:
        model = update.apply(rank, scale)
        score = accuracy(predict(model, pictures).numpy(), labels)
        kept = scale * math.hypot(*(update.spectrum(n)[:rank].norm().item() for n in update.factors))
        values = {"accuracy (%)": score, "‖ΔW‖ / ‖W‖": kept / norm}
        text = (
            f"rank {rank}, scale {scale}: **{score:.1f} %** of {len(labels)} test images; ‖ΔW‖/‖W‖ = {kept / norm:.3f}."
        )
        return Answer(values, text)

    controls: dict[str, Sequence[Any]] = {"rank": list(ranks), "scale": [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0]}
    return Explorer(controls, {"rank": max(ranks), "scale": 1.0}, answer_to, charts.updates)


def alpha_slider(curves: pd.DataFrame, methods: Sequence[str], columns: Sequence[str]) -> Explorer:
    """Choose a method and alpha of its weight-space ensemble: the accuracies of ``columns``, beside both ends.

    ``curves``: method, alpha and these columns (``robust.summary``); all that is shown was measured.
    """
    alphas = sorted(set(curves["alpha"]))
    at = curves.set_index(["method", "alpha"])[list(columns)]
    absent = [(method, alpha) for method in methods for alpha in alphas if (method, alpha) not in at.index]
    if absent:
        raise pc.UserError(f"{absent[0][0]} has no point at alpha {absent[0][1]:g}; give curves with the same alphas")

    def answer_to(method: str, alpha: float) -> Answer:
        here, ends = at.loc[(method, alpha)], (at.loc[(method, alphas[0])], at.loc[(method, alphas[-1])])
        moved = ", ".join(
            f"{name} {here[name]:.1f} % ({here[name] - ends[0][name]:+.1f} from zero-shot, "
            f"{here[name] - ends[1][name]:+.1f} from tuned)"
            for name in (columns[0], columns[-1])
        )
        return Answer(here.to_dict(), f"{get(method).title} at α = {alpha:g}: {moved}.")

    controls = {"method": list(methods), "alpha": alphas}
    return Explorer(controls, {"method": methods[0], "alpha": alphas[-1]}, answer_to, charts.alphas)
