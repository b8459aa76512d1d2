"""The published front, matched target accuracy, and size against distance, on cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from petl_core.utils import UserError
from petl_guide import published, robust
from petl_guide.accuracy import pareto
from petl_guide.low_shot import affinity


def test_the_published_front_and_matched_accuracies() -> None:
    curves = published.read("interpolation")
    curves = curves[curves["interpolated"] == "backbone and head"]
    best = curves.iloc[pareto(curves["shift"], -curves["imagenet"])[::-1]]
    assert [f"{m}@{a:g}" for m, a in zip(best["method"], best["alpha"], strict=True)] == [
        *("lora@0.4", "lora@0.5", "lora@0.6", "full@0.3", "lora@0.7"),
        *("full@0.4", "full@0.5", "full@0.6"),
    ]
    table = robust.matched(curves, [75, 76, 76.5, 77])
    assert table.loc["lora"].round(2).tolist()[:3] == [61.02, 60.52, 59.85]
    assert table.loc["full"].round(2).tolist() == [60.61, 60.27, 59.83, 59.40]
    assert math.isnan(table.loc["lora", 77]) and math.isnan(table.loc["bitfit", 76])


def test_at_target_stays_on_the_rising_part() -> None:
    alphas, target, shifted = [0, 0.5, 1], [50, 70, 60], [40, 30, 10]
    assert robust.at_target(alphas, target, shifted, 60) == pytest.approx(35)
    assert robust.at_target(alphas[::-1], target[::-1], shifted[::-1], 60) == pytest.approx(35)
    assert robust.at_target(alphas, target, shifted, 50) == 40
    assert math.isnan(robust.at_target(alphas, target, shifted, 49))
    curves = pd.DataFrame({"method": ["full"] * 2, "alpha": [0.5, 0.5], "imagenet": [1.0, 2], "shift": [1.0, 2]})
    with pytest.raises(UserError, match=r"full has several points at alpha 0\.5"):
        robust.matched(curves, [1])
    with pytest.raises(UserError, match="lack the columns alpha, shift"):
        robust.matched(curves[["method", "imagenet"]], [1])


def test_size_against_distance() -> None:
    params = {"layernorm": 1, "bitfit": 2, "lora": 5, "convpass": 9}
    random = np.random.default_rng(0)
    near = pd.DataFrame([[4, 3, 2, 1]] * 4, index=list("abcd"), columns=list(params), dtype=float)
    far = pd.DataFrame([[1, 2, 3, 4]] * 4, index=list("efgh"), columns=list(params), dtype=float)
    rho = affinity.size_matters(pd.concat([near, far]), params)
    assert rho.tolist() == pytest.approx([-1] * 4 + [1] * 4)
    linear = pd.Series([90.0, 88, 85, 80, 40, 35, 30, 20], index=list("abcdefgh"))
    found = affinity.trend(affinity.distance(linear), rho)
    assert found.mean == pytest.approx(stats.spearmanr(100 - linear, rho).statistic) and found.low > 0 and found.n == 8
    noise = affinity.trend(affinity.distance(linear), pd.Series(random.normal(size=8), index=linear.index))
    assert noise.low < 0 < noise.high
    gain = affinity.distance(linear, linear + 7)
    assert gain.tolist() == pytest.approx([7] * 8)
    with pytest.raises(UserError, match="the parameters of convpass are missing"):
        affinity.size_matters(near, {"layernorm": 1, "bitfit": 2, "lora": 5})
    with pytest.raises(UserError, match="a trend over 4 tasks says nothing"):
        affinity.trend(linear[:4], rho)
