"""The second finding on made-up predictions with a known answer, its figures, and the ensemble picker."""

from __future__ import annotations

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from petl_core.study.predictions import Predictions
from petl_core.study.records import Records, RunSpec
from petl_core.training.train import Recipe, Run
from petl_core.utils import UserError
from petl_guide import runs as select
from petl_guide.figures import mistakes as mistake_figures
from petl_guide.figures import style
from petl_guide.figures.mistakes import Mark
from petl_guide.interactive import explorer
from petl_guide.mistakes import mistakes

RUNS = list(itertools.product(("lora", "ssf", "bitfit", "vqt"), (0, 1, 2)))
GROUPS = {"a": "natural", "b": "specialised", "c": "structured"}


def made(seed: int, method_matters: bool, n: int = 1500, count: int = 5) -> Predictions:
    """Runs that are right on 75 %. Where the method matters, half of a run's mistakes are those of its method."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, count, n)
    logits = np.zeros((len(RUNS), n, count), dtype=np.float32)
    own = {m: random.random(n) for m, _ in RUNS}
    for i, (method, _) in enumerate(RUNS):
        luck = random.random(n)
        difficulty = np.where(random.random(n) < 0.5, own[method], luck) if method_matters else luck
        wrong = difficulty < 0.25
        classes = np.where(wrong, (labels + random.integers(1, count, n)) % count, labels)
        logits[i, np.arange(n), classes] = 1 + random.random(n) * np.where(wrong, 1, 3)
    runs = pd.DataFrame(RUNS, columns=["method", "seed"]).assign(digest=[f"{i:016x}" for i in range(len(RUNS))])
    return Predictions("made up", runs, logits, labels, tuple(map(str, range(n))))


@pytest.fixture(scope="module")
def matters() -> dict[str, Predictions]:
    return {task: made(i, True) for i, task in enumerate(GROUPS)}


@pytest.fixture(scope="module")
def luck() -> dict[str, Predictions]:
    return {task: made(10 + i, False) for i, task in enumerate(GROUPS)}


def test_what_is_there_is_found_and_what_is_not_is_not(matters: dict, luck: dict) -> None:
    apart = [mistakes.disagreement(found) for found in (matters, luck)]
    assert apart[0]["difference"].min() > 2 > apart[1]["difference"].abs().max()
    assert apart[1]["within"].mean() == pytest.approx(apart[1]["unrelated"].mean(), abs=1.5)
    assert (apart[0]["p"] < 0.01).all()


def test_tables_are_of_the_tasks_in_their_order(matters: dict) -> None:
    for table in (mistakes.disagreement(matters), mistakes.ensemble_gains(matters), mistakes.equal_sizes(matters)):
        assert table["task"].tolist() == list(GROUPS)
    shared = mistakes.overlaps(matters)
    assert shared["which"].tolist() == ["confident_correct", "unconfident_wrong"] * 3
    assert (shared[["methods", "seeds", "chance"]].to_numpy() <= 100).all()


def test_methods_of_like_accuracy(matters: dict) -> None:
    part = matters["a"]
    worse = part.logits.copy()
    worse[9:] = 0.0
    worse[9:, :, 0] = 1.0  # the last method says 0 to everything
    unequal = Predictions(part.task, part.runs, worse, part.labels, part.ids)
    assert list(dict.fromkeys(mistakes.alike(unequal, 5).runs["method"])) == ["bitfit", "lora", "ssf"]
    assert len(mistakes.alike(unequal, 100)) == len(unequal)


def test_one_method_under_two_names(luck: dict) -> None:
    many = Predictions(
        "made up",
        pd.DataFrame({"method": "lora", "seed": range(5), "digest": [f"{i:016x}" for i in range(5)]}),
        luck["a"].logits[:5].copy(),
        luck["a"].labels,
        luck["a"].ids,
    )
    row = mistakes.two_names({"a": many}).iloc[0]
    assert abs(row["two names"]) < 3 and row["seeds"] == 5
    assert row["first seeds"] == pytest.approx(row["all seeds"], abs=2)
    many.logits[1], many.logits[3] = many.logits[0], many.logits[2]  # now there are two methods of equal seeds
    assert mistakes.two_names({"a": many}).iloc[0]["two names"] > 20
    with pytest.raises(UserError, match="lora on a has 3 seeds; two pretended methods need four or more"):
        mistakes.two_names({"a": luck["a"].of(["lora"])})


def test_load_leaves_out_a_method_that_diverged_on_a_task(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for method, task in itertools.product(("lora", "ssf"), ("digits", "glyphs")):
        spec = RunSpec("mini", "w", method, {}, task, "d", Recipe(lr=1e-3, epochs=2))
        failed = (method, task) == ("ssf", "glyphs")
        logits, labels, ids = np.zeros((40, 4), np.float16), np.arange(40) % 4, tuple(f"id{i}" for i in range(40))
        accuracy = math.nan if failed else 50.0
        run = Run(accuracy, "test", logits, labels, ids, 55.0, 1.5, failed, [], 8, 99, "natural", 700.0)
        records.save(spec, run, "tuned")
    found = mistakes.load(records, select.runs(records.table()))
    assert {task: list(part.runs["method"]) for task, part in found.items()} == {
        "digits": ["lora", "ssf"],
        "glyphs": ["lora"],
    }
    with pytest.raises(UserError, match="there are no runs to compare"):
        mistakes.load(records, select.runs(records.table()).iloc[:0])


def test_figures_show_the_numbers_that_they_are_given(matters: dict) -> None:
    table = mistakes.disagreement(matters)
    marks = {
        "within": Mark("seeds", filled=False),
        "between": Mark("methods"),
        "unrelated": Mark("chance", "|", "#888888"),
    }
    figure = mistake_figures.task_marks(table, marks, GROUPS, "t", "x")
    drawn = {round(float(line.get_xdata()[0]), 6) for line in figure.axes[0].lines if len(line.get_xdata()) == 1}
    assert drawn == {round(value, 6) for value in table[list(marks)].to_numpy().ravel()}
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["c", "b", "a"]
    names = ["lora", "ssf", "bitfit"]
    square = pd.DataFrame(np.arange(9.0).reshape(3, 3), index=names, columns=names)
    for made_figure in (
        figure,
        mistake_figures.task_panels({"one": table, "two": table}, marks, GROUPS, "t", "x"),
        mistake_figures.pair_matrix(square, "t", "x"),
    ):
        assert Image.open(io.BytesIO(style.show(made_figure, "a").png)).width == 720


def test_the_ensemble_picker(matters: dict) -> None:
    picker = explorer.ensemble_picker(matters, ["lora", "ssf", "bitfit"])
    alone = picker.answer(second="none")
    assert alone.values["members"] == 1 and alone.values["ensemble"] == alone.values["best member"]
    three = picker.answer(second="none", seed="all")
    assert three.values["members"] == 3 and three.values["ensemble"] > three.values["mean member"]
    assert picker.answer(second="lora").values["members"] == 1  # the same method twice counts once
    assert len(picker.static({"how": "vote"}, {"task": "b"})) == 3
    menu = picker.widget().children[0].children
    for control, value in ((0, "c"), (1, "ssf"), (5, "probability")):
        menu[control].value = value
    with pytest.raises(ValueError, match="how='guess'"):
        picker.answer(how="guess")
    with pytest.raises(UserError, match="an ensemble needs methods"):
        explorer.ensemble_picker(matters, [])
