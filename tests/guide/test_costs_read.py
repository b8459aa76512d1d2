"""Files of costs as the guide reads them: refusals, shares, elasticities and the verdict on them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from petl_core.utils import UserError
from petl_guide import costs as analysis


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    for text in ("{", '{"format": 99, "methods": [1]}', "[]", '{"format": 1, "methods": []}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"costs\.json"):
            analysis.read(path)
    with pytest.raises(UserError, match=r"none\.json"):
        analysis.read(tmp_path / "none.json")


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
    judged = analysis.verdicts(shares).set_index("cost")["verdict"]
    assert judged["training memory"] == judged["time of a step"] == verdict
    assert judged["file, head apart"] == "control behaves"


def test_noise_is_undecided_and_a_file_that_does_not_grow_fails_the_control() -> None:
    shares = analysis.shares(pretended(0.05))
    shares.loc[0:3, "step"] = [1.0, 80.0, 2.0, 90.0]
    shares["file"] = 50.0
    judged = analysis.verdicts(shares).set_index("cost")["verdict"]
    assert judged["time of a step"] == "undecided" and judged["file, head apart"] == "control fails"
    assert math.isnan(analysis.elasticity(shares[:2], "memory")[0])
    with pytest.raises(UserError, match="exactly one row of 'full'"):
        analysis.shares(pretended(0.0)[:4])
