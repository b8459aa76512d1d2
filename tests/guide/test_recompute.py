"""The claims on the shipped records against a recomputation that was written from the rules alone (``recompute``)."""

from __future__ import annotations

import json

import pytest
import recompute

from petl_core.utils import RESULTS
from petl_guide import ledger
from petl_guide.results import open_results


@pytest.fixture(scope="module")
def judged() -> dict:
    read = json.loads(ledger.as_json(open_results("laptop")))
    return {claim["number"]: claim["evidence"] for claim in read["claims"]}


@pytest.mark.parametrize(("source", "folder"), [("laptop", RESULTS), ("photographs", RESULTS / "real")])
def test_the_same_effects_and_intervals(judged: dict, source: str, folder) -> None:
    runs = recompute.Runs(folder)
    compared = 0
    for number, compute in recompute.CLAIMS.items():
        verdict = judged[number][source]
        if verdict["verdict"] == "not run":
            continue
        found, expected = compute(runs), [verdict["effect"], *verdict["interval"]]
        if number == "C9":
            for task, ends in found.items():
                part = verdict["parts"][task]
                assert "no predictions kept" in part["told"]  # so the images are drawn as there
                assert ends == pytest.approx([part["effect"], *part["interval"]], abs=0.005)
        elif number == "C13":
            top = verdict["parts"]["top"]
            assert found["curve"] == pytest.approx(expected, abs=0.005)
            assert found["top"] == pytest.approx([top["effect"], *top["interval"]], abs=0.005)
        else:
            assert found == pytest.approx(expected, abs=0.005), number
        compared += 1
    assert compared == {"laptop": 7, "photographs": 6}[source]
