"""What files of costs (``petl_make.costs``) say: tables, shares of full fine-tuning, elasticities, the Pareto front."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.utils import UserError
from petl_guide.runs import peft_rows
from petl_guide.verdict import Estimate, Evidence, judged

REFERENCE = "full"  # the method that others are a share of
COSTS_FORMAT = 1
MEGA = 1e6
SHARES = {  # column: what it is a share of
    "parameters": "trainable parameters",
    "file": "file, head apart",
    "memory": "training memory",
    "flops": "operations of a step",
    "step": "time of a step",
}
NEAR_ONE = 0.1  # a file has a header of a few kilobytes, so its elasticity is not 1 exactly
PROPORTIONAL = 0.5  # an elasticity above it counts as "grows with the parameters", one below as "does not"


def read(path: str | Path) -> dict[str, Any]:
    """A file of costs. ``UserError`` if it is damaged or of another format."""
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != COSTS_FORMAT or not found["methods"]:
            raise ValueError(f"format {found['format']}")
        return found
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no file of costs ({error}); make it: python -m petl_make costs --out {path}"
        ) from error


def digest(path: str | Path) -> str:
    """Eight hexadecimal digits that name the content of a file of costs."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]


def table(found: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each method of a file of costs: parameters, megabytes, seconds (medians over rounds).

    ``file`` is without the head. ``step_ratio`` is against full fine-tuning, ``unmerged_ratio`` and ``merged_ratio`` of
    inference against the plain backbone: medians over rounds, with the least and the largest (``.._low``, ``.._high``).
    """
    rows = []
    for cost in found["methods"]:
        row: dict[str, Any] = {
            "method": cost["method"],
            "parameters": cost["parameters"],
            "file": (cost["file_bytes"] - cost["head_bytes"]) / MEGA,
            "head": cost["head_bytes"] / MEGA,
            "flops": cost["training_flops"] / 1e9,
            **{part: cost[part] / MEGA for part in ("weights", "gradients", "optimiser", "activations", "memory")},
            "peak": cost["peak"] / MEGA if cost["peak"] else math.nan,
            "step": float(np.median(cost["step"])),
            "inference": float(np.median(cost["inference_unmerged"])),
        }
        row |= _ratio("step", cost["step"], cost["step_reference"])
        row |= _ratio("unmerged", cost["inference_unmerged"], cost["inference_plain"])
        row |= _ratio("merged", cost.get("inference_merged", [math.nan]), cost["inference_plain"])
        rows.append(row)
    return pd.DataFrame(rows)


def _ratio(name: str, times: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    ratios = np.asarray(times) / np.asarray(reference)
    values = float(np.median(ratios)), float(np.min(ratios)), float(np.max(ratios))
    return dict(zip((f"{name}_ratio", f"{name}_low", f"{name}_high"), values, strict=True))


def inference(found: Mapping[str, Any]) -> pd.DataFrame:
    """Inference with each method against the plain backbone: operations added in per cent, ratios of time, and whether
    the merged model has exactly the operations and the weights of the plain one."""
    rows = []
    for cost, times in zip(found["methods"], table(found).to_dict("records"), strict=True):
        same = "cannot merge"
        if "merged_flops" in cost:
            equal = all(cost[f"merged_{part}"] == cost[f"plain_{part}"] for part in ("flops", "weights"))
            same = "exactly" if equal else "NO"
        more = 100.0 * (cost["unmerged_flops"] / cost["plain_flops"] - 1.0)
        rows.append((cost["method"], more, times["unmerged_ratio"], times["merged_ratio"], same))
    columns = ["method", "more operations (%)", "time, attached", "time, merged", "merged = plain"]
    return pd.DataFrame(rows, columns=columns).sort_values("time, attached", ignore_index=True)


def shares(costs: pd.DataFrame) -> pd.DataFrame:
    """Each cost of a training as a percentage of full fine-tuning's, with the columns ``SHARES``."""
    full = costs[costs["method"] == REFERENCE]
    if len(full) != 1:
        raise UserError(f"shares need exactly one row of '{REFERENCE}'; there are {len(full)}")
    ratios = {column: costs[column] / full[column].iloc[0] for column in SHARES if column != "step"}
    shares = pd.DataFrame({**ratios, "step": costs["step_ratio"]})
    return pd.concat([costs["method"], 100.0 * shares], axis=1)


def elasticity(of: pd.DataFrame, column: str, level: float = 0.95) -> tuple[float, float, float]:
    """By how many per cent a cost grows when the trained parameters grow by one per cent, over PEFT methods: the slope
    of log cost on log parameters, with its interval. 1: proportional; 0: not related. NaN for fewer than three methods.
    """
    part = peft_rows(of[of["parameters"] > 0])
    if len(part) < 3:
        return math.nan, math.nan, math.nan
    fit = stats.linregress(np.log(part["parameters"]), np.log(part[column]))
    half = float(stats.t.ppf(0.5 + level / 2, len(part) - 2)) * float(fit.stderr)
    return float(fit.slope), float(fit.slope) - half, float(fit.slope) + half


def verdicts(of: pd.DataFrame) -> pd.DataFrame:
    """The claim "few trained parameters do not mean proportionally little", for each cost: its elasticity, the smallest
    and largest share among PEFT methods, and the verdict. The file's row is the control: it has to be proportional."""
    of_peft = peft_rows(of)
    rows = []
    for column, text in list(SHARES.items())[1:]:
        slope, low, high = elasticity(of, column)
        below = Estimate(PROPORTIONAL - slope, PROPORTIONAL - high, PROPORTIONAL - low, n=len(of_peft))
        verdict = judged(Evidence(estimate=below, sample="methods")).verdict
        if column == "file" and not math.isnan(slope):
            verdict = "control behaves" if abs(slope - 1.0) < NEAR_ONE else "control fails"
        rows.append((text, slope, low, high, of_peft[column].min(), of_peft[column].max(), verdict))
    columns = ["cost", "elasticity", "low", "high", "smallest share", "largest share", "verdict"]
    return pd.DataFrame(rows, columns=columns)
