"""Figures and tables: they work on any table, are as wide as a page, look the same each time, and say what is wrong."""

from __future__ import annotations

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from petl_core import methods as registry
from petl_core.data import load_task
from petl_core.study.records import COLUMNS
from petl_core.training.train import Recipe
from petl_core.utils import EMBEDDED, UserError
from petl_guide import accuracy, published
from petl_guide.figures import low_shot as figures
from petl_guide.figures import protocol as protocol_figures
from petl_guide.figures import style, tables
from petl_guide.low_shot import tuning, variance

GROUP = {"p": "natural", "q": "natural", "r": "specialised", "s": "structured"}


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    """Final runs of every registered method on four tasks."""
    random, rows = np.random.default_rng(0), []
    for number, (task, method, seed) in enumerate(itertools.product(GROUP, registry.names(), range(3))):
        row = dict.fromkeys(COLUMNS, math.nan)
        row |= {"digest": f"{number:016x}", "backbone": "mini", "method": method, "task": task, "group": GROUP[task]}
        row |= {"seed": seed, "stage": "final", "variant": "tuned", "diverged": False, "classes": 10}
        rows.append(row | {"accuracy": 60 + 3 * random.standard_normal()})
    return pd.DataFrame(rows, columns=COLUMNS)


def picture(figure: Figure) -> Image.Image:
    shown = style.show(figure, "what it shows")
    assert shown._repr_mimebundle_()[1]["image/png"]["alt"] == "what it shows"
    return Image.open(io.BytesIO(shown.png))


def test_every_method_has_a_look_of_its_own() -> None:
    looks = [style.look(name) for name in registry.names()]
    assert len({(look.colour, look.marker) for look in looks}) == len(looks)
    for family in {look.family for look in looks}:
        markers = [look.marker for look in looks if look.family == family]
        assert len(set(markers)) == len(markers)  # told apart without colour
    assert style.look("unheard of").title == "unheard of"


def test_figures_are_as_wide_as_the_page(runs: pd.DataFrame) -> None:
    after, before = runs, runs.assign(variant="default", accuracy=runs["accuracy"] - 1)
    pairs = tuning.paired(pd.concat([after, before]), "tuned", "default")
    by_group = accuracy.by_group(runs)
    curve = pd.DataFrame({1: [50.0, 51.0], 2: [52.0, 53.0]}, index=["lora", "full"])
    drawn = [
        figures.accuracy_by_group(by_group, "t"),
        figures.task_strip(accuracy.by_task(runs), "t", accuracy.order(runs)),
        figures.critical_difference(accuracy.scores(runs), "t"),
        figures.paired_differences(pairs, tuning.by_method(pairs), "t", "x"),
        figures.published_and_ours(published.beside(by_group), "t"),
        figures.seed_and_method(variance.by_task(runs), "t"),
        figures.trial_curves(curve, curve, "t"),
        figures.equal_budgets({"lora": pd.Series({1: 50.0, 4: 60.0, 9: 61.0})}, "t"),
        protocol_figures.suite([load_task("count")], "t"),
        protocol_figures.schedule({"a": (Recipe(epochs=2), 100)}, "t"),
        protocol_figures.selection_on_noise(70, "t", most=10, repeats=10),
    ]
    for figure in drawn:
        assert figure.get_suptitle() == "t" or any("t" in (ax.get_title(), ax.get_title("left")) for ax in figure.axes)
        assert picture(figure).width == 720


def test_a_figure_shows_the_numbers_it_is_given(runs: pd.DataFrame) -> None:
    table = accuracy.by_group(runs)
    figure = figures.accuracy_by_group(table, "t")
    dots = {round(float(line.get_xdata()[0]), 6) for line in figure.axes[-1].lines if len(line.get_xdata()) == 1}
    assert dots == {round(mean, 6) for mean in table.loc[table["group"] == accuracy.MEAN, "mean"]}


def test_equal_budgets_marks_a_method_at_four_trials_and_at_all_that_it_had() -> None:
    curves = {"lora": pd.Series({1: 50.0, 4: 60.0, 9: 61.0}), "ssf": pd.Series({1: 55.0, 4: 56.0})}
    marks = [line.get_xydata().tolist() for line in figures.equal_budgets(curves, "t").axes[0].lines]
    assert {tuple(mark[0]) for mark in marks if len(mark) == 1} == {(4, 60), (9, 61), (4, 56)}


def test_equal_figures_are_equal_bytes(runs: pd.DataFrame) -> None:
    one, two = (style.show(figures.seed_and_method(variance.by_task(runs), "t"), "a") for _ in range(2))
    assert one.png == two.png


def test_tables() -> None:
    frame = pd.DataFrame({"method": ["lora", "ssf"], "test_accuracy": [70.123, math.nan], "runs": [3, 1200]})
    html = tables.table(frame, {"test_accuracy": "{:.1f}"}, "what it is").to_html()
    for piece in ("LoRA", "70.1", "–", "1,200", "what it is", "test accuracy"):
        assert piece in html
    assert html == tables.table(frame, {"test_accuracy": "{:.1f}"}, "what it is").to_html()
    assert "LoRA" in repr(tables.table(frame))
    assert " at 0x" not in repr(tables.table(frame))
    assert tables.points(1.25, 0.3, 2.1) == "+1.2 points [+0.3, +2.1]"
    assert tables.points(-0.04, -1.0, 1.0) == "+0.0 points [-1.0, +1.0]"
    assert [tables.direction(*ends) for ends in ((1, 2), (-2, -1), (-1, 1))] == [
        "higher",
        "lower",
        "no clear difference",
    ]
    assert tables.names(["lora", "ssf", "bitfit"]) == "LoRA, SSF and BitFit"
    assert tables.names([]) == "none"


def test_the_log_of_pretraining(tmp_path: Path) -> None:
    recipe, epochs = protocol_figures.read_log(EMBEDDED / "mini_log.jsonl")
    assert [row["epoch"] for row in epochs] == list(range(1, recipe["epochs"] + 1))
    assert picture(protocol_figures.pretraining(epochs, "t")).width == 720
    (tmp_path / "log.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"log\.jsonl"):
        protocol_figures.read_log(tmp_path / "log.jsonl")
