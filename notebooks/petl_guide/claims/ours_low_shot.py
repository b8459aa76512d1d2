"""The claims about few labels, checked on our records: C1 to C5, and C3 at other resolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from petl_core.utils import UserError
from petl_guide import published
from petl_guide import runs as select
from petl_guide.claims import measures
from petl_guide.claims.draws import over_seeds_and_images
from petl_guide.claims.study import Study, chosen
from petl_guide.low_shot import tuning
from petl_guide.results import Results
from petl_guide.verdict import FEWEST_TASKS, Control, Evidence, over

FITTED = 95.0  # per cent of the training images, from which a regulariser has something to do
RESOLUTIONS = (64, 224)  # pixels
RISE = 5.0  # points that linear probing should gain from the lower to the higher


def _counted(study: Study) -> pd.DataFrame:
    return study.peft[published.counted(study.peft)]


def _similarity(results: Results) -> tuple[Study, tuple[Control, ...]]:
    study = Study(results)
    counted = _counted(study)
    noise = math.sqrt(2 / len(counted)) * study.cell_noise
    of_means = Control("noise of a difference of two means", noise, measures.MARGIN / 2, noise < measures.MARGIN / 2)
    return study, (of_means, *study.nearly_all(list(counted)))


def similar_means(results: Results) -> Evidence:
    """C1a: how far the means of two of the methods that the study counts lie apart."""
    study, controls = _similarity(results)
    told = study.noise_told
    if len(study.peft.columns) > len(_counted(study).columns):
        told += f"; of all PEFT methods {measures.rho(study.peft).mean:.2f}"
    return replace(measures.similar_means(_counted(study)), controls=controls, told=told)


def similar_tasks(results: Results) -> Evidence:
    """C1b: the same on single tasks."""
    study, controls = _similarity(results)
    found = measures.similar_on_tasks(_counted(study), 2 * study.cell_noise**2)
    below = sum(value < found.margin for value in found.effects.values())
    told = f"below {found.margin:g} points on {below} of {len(found.effects)} tasks; {study.noise_told}"
    return replace(found, controls=controls, told=told)


def bitfit(results: Results) -> Evidence:
    """C2: BitFit minus the median of the other PEFT methods."""
    study = Study(results)
    others = study.peft.drop(columns="bitfit", errors="ignore").median(axis=1)
    return Evidence(
        _by_task(study.score("bitfit") - others),
        "points from the median method",
        kind="not worse",
        variances=study.variances,
        controls=study.sound("bitfit"),
        told=study.noise_told,
    )


def _by_task(values: pd.Series) -> dict[str, float]:
    return {str(task): float(value) for task, value in values.items()}


def _above(results: Results, baseline: str) -> tuple[Study, Evidence]:
    study = Study(results)
    effects = _by_task(study.peft.median(axis=1) - study.score(baseline))
    controls, handicaps = study.baseline(baseline)
    told = study.noise_told
    if handicaps:
        told += f"; handicap of {baseline}, mean {over(handicaps).mean:.2f}"
    unit = f"points above {baseline}"
    return study, Evidence(effects, unit, "better", 2.0, study.variances, handicaps, controls, told=told)


def above_linear(results: Results) -> Evidence:
    """C3a: the median PEFT method minus linear probing."""
    study, found = _above(results, "linear")
    best = study.peft.max(axis=1) - study.score("linear")
    tight = [str(task) for task in best.index[best < measures.HEADROOM]]
    told = f"{found.told}; less than {measures.HEADROOM:g} points above linear at best: {', '.join(tight) or 'no task'}"
    return replace(found, told=told)


def above_full(results: Results) -> Evidence:
    """C3b: the median PEFT method minus full fine-tuning; beside it, on tasks near the pre-training and far from it."""
    study, found = _above(results, "full")
    if "linear" not in study.scores or len(found.effects) < 2:
        return found
    near, far = measures.halves(100 - study.score("linear"))
    means = [sum(found.effects[task] for task in tasks) / len(tasks) for tasks in (near, far)]
    return replace(found, told=f"{found.told}; near tasks {means[0]:+.2f}, far ones {means[1]:+.2f}")


def drop_path(results: Results) -> Evidence:
    """C4: drop path switched on, same setting and seeds, on tasks whose training images are fitted without it."""
    study = Study(results)
    low, high = (f"drop_path_{end(results.profile.drop_paths):g}" for end in (min, max))
    pairs = tuning.paired(study.table, high, low)
    effects = pairs.groupby("task")["difference"].mean()
    fitted = select.runs(study.table, low).groupby("task")["train_accuracy"].mean()
    counted = effects[fitted[effects.index] >= FITTED]
    kept = Control(f"tasks fitted to {FITTED:g} % without it", len(counted), FEWEST_TASKS, len(counted) >= FEWEST_TASKS)
    shown = counted if len(counted) else effects
    told = f"on all {len(effects)} tasks {effects.mean():+.2f}"
    variances = {str(task): 2 * study.cell_noise**2 for task in shown.index}
    return Evidence(_by_task(shown), margin=1.0, variances=variances, controls=(kept,), told=told)


def size_and_distance(results: Results) -> Evidence:
    """C5: how much more a decade of parameters gains on far tasks (large error of linear probing) than on near ones."""
    study = Study(results)
    counted = _counted(study)
    params = study.choices["params"].unstack()[counted.columns]
    slopes = measures.slopes(counted, params)
    near, far = measures.halves(100 - study.score("linear"))
    enough = Control("tasks on each side", len(near), FEWEST_TASKS, len(near) >= FEWEST_TASKS)
    sides = [[slopes[task] for task in tasks] for tasks in (far, near)]
    means = [sum(side) / max(len(side), 1) for side in sides]
    return Evidence(
        slopes,
        "points for ten times the parameters",
        margin=1.0,
        controls=(enough, *study.nearly_all(list(counted), length=False)),
        estimate=measures.contrast(*sides),
        told=f"far {means[0]:+.2f}, near {means[1]:+.2f}",
    )


def resolution(results: Results) -> Evidence:
    """C3r: LoRA minus full fine-tuning on the same pictures at 224 px, less the same at 64 px."""
    study = Study(results)
    runs = {pixels: _at(study, pixels) for pixels in RESOLUTIONS}
    low, high = (runs[pixels] for pixels in RESOLUTIONS)
    signs = {"lora": 1, "full": -1}
    groups = [(sign, high[method]) for method, sign in signs.items()]
    groups += [(-sign, low[method]) for method, sign in signs.items()]
    estimate, told = over_seeds_and_images(results, groups)
    rise = float(high["linear"]["accuracy"].mean() - low["linear"]["accuracy"].mean())
    controls, most = [Control("linear's gain by resolution", rise, RISE, rise >= RISE)], measures.MOST_AT_ENDS
    for method in ("linear", *signs):
        edges = [bool(_choice(study, pixels)["edge"].xs(method, level="method").any()) for pixels in RESOLUTIONS]
        share = 100 * sum(edges) / len(edges)
        controls.append(Control(f"{method}'s rate at an end, % of resolutions", share, most, share <= most))
    return Evidence(margin=1.0, controls=tuple(controls), sample="seeds and images", estimate=estimate, told=told)


def _variants(pixels: int) -> tuple[str, str]:
    """Of final runs and of trials."""
    if pixels == RESOLUTIONS[0]:
        return "tuned", "trial"
    return f"resolution_{pixels}", f"resolution_{pixels}_trial"


def _finals(study: Study, pixels: int) -> pd.DataFrame:
    highest, _ = _variants(RESOLUTIONS[-1])
    tasks = set(study.table.loc[study.table["variant"] == highest, "task"])
    if not tasks:
        raise UserError(f"there are no runs at {RESOLUTIONS[-1]} px; run the part {highest!r}")
    return select.runs(study.table, _variants(pixels)[0], methods=["linear", "full", "lora"], tasks=sorted(tasks))


def _at(study: Study, pixels: int) -> Mapping[str, pd.DataFrame]:
    return {str(method): part for method, part in _finals(study, pixels).groupby("method")}


def _choice(study: Study, pixels: int) -> pd.DataFrame:
    trials = study.table[study.table["variant"] == _variants(pixels)[1]]
    return chosen(_finals(study, pixels), trials)
