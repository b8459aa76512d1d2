"""What files of costs say: shares, elasticities, verdicts, figures; and the chapter that shows the shipped file."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from petl_core import methods
from petl_core.utils import DATA, UserError
from petl_guide import costs as analysis
from petl_guide import notebooks
from petl_guide.figures import costs as cost_figures
from petl_make import costs


@pytest.fixture(scope="module")
def measured() -> dict[str, dict]:
    settings = costs.Settings("mini", batch=2, classes=10, rounds=2)
    found = costs.measure_all(["lora", "ssf", "vpt_deep", "linear"], settings, separate=False)
    assert [row["method"] for row in found["methods"]] == ["lora", "ssf", "vpt_deep", "linear", "full"]
    return {row["method"]: row for row in found["methods"]}


SHIPPED = sorted((DATA / "costs").glob("*.json"))


def pretended(power: float) -> pd.DataFrame:
    names = ["layernorm", "bitfit", "lora", "adaptformer", "full"]
    parameters = np.array([100.0, 300.0, 1000.0, 5000.0, 1e6])
    columns = dict.fromkeys(("memory", "flops", "step_ratio"), (parameters / 1e6) ** power)
    return pd.DataFrame({"method": names, "parameters": parameters, "file": parameters * 4, **columns})


@pytest.mark.parametrize(("power", "verdict"), [(0.05, "supported"), (0.1, "supported"), (1.0, "contradicted")])
def test_the_verdict_on_costs_of_known_elasticity(power: float, verdict: str) -> None:
    shares = analysis.shares(pretended(power))
    assert shares.loc[shares["method"] == "full"].iloc[0, 1:].tolist() == [100.0] * 5
    slope, low, high = analysis.elasticity(shares, "memory")
    assert slope == pytest.approx(power, abs=1e-9) and low <= slope <= high
    judged = analysis.judge(shares).set_index("cost")["verdict"]
    assert judged["training memory"] == judged["time of a step"] == verdict
    assert judged["file, head apart"] == "control behaves"


def test_noise_is_undecided_and_a_file_that_does_not_grow_fails_the_control() -> None:
    shares = analysis.shares(pretended(0.05))
    shares.loc[0:3, "step"] = [1.0, 80.0, 2.0, 90.0]
    shares["file"] = 50.0
    judged = analysis.judge(shares).set_index("cost")["verdict"]
    assert judged["time of a step"] == "undecided" and judged["file, head apart"] == "control fails"
    assert math.isnan(analysis.elasticity(shares[:2], "memory")[0])
    with pytest.raises(UserError, match="exactly one row of 'full'"):
        analysis.shares(pretended(0.0)[:4])


def test_pareto_keeps_what_no_other_beats() -> None:
    assert analysis.pareto([60, 70, 65, 70, 50], [1, 3, 2, 4, 1]) == [0, 2, 1]
    assert analysis.pareto([60, 60], [1, 1]) == [0, 1]


def test_figures_of_costs(measured: dict[str, dict]) -> None:
    table = analysis.table({"methods": [{**row, "peak": row["memory"]} for row in measured.values()]})
    assert table["step_ratio"].between(table["step_low"], table["step_high"]).all()
    shares = analysis.shares(table)
    figure = cost_figures.shares(shares, "shares")
    trained = shares[shares["parameters"] > 0].sort_values("parameters")["method"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [methods.registry[m].title for m in trained]
    bars = cost_figures.memory(table, "memory").axes[0].patches
    total = sum(bar.get_width() for bar in bars)
    assert total == pytest.approx(table["memory"].sum())
    table["accuracy"] = [60.0, 61.0, 62.0, 50.0, 64.0]
    figure = cost_figures.accuracy_against(table, {"parameters": ("parameters", True)}, "front")
    assert figure.axes[0].lines[0].get_ydata().tolist()[-1] == 64.0


def test_the_chapter_shows_the_shipped_file() -> None:
    assert SHIPPED
    chapter = (notebooks.FOLDER / "09_what_it_costs.ipynb").read_text(encoding="utf-8")
    for path in SHIPPED:
        assert analysis.digest(path) in chapter, f"{path.name} changed: make notebooks"
