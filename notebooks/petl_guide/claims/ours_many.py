"""The claims about many images and about why it works, checked on our records: C9 and C10."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from petl_core.utils import UserError
from petl_guide import mechanism, sweep
from petl_guide.claims.draws import over_seeds_and_images
from petl_guide.claims.measures import MOST_AT_ENDS
from petl_guide.claims.study import chosen
from petl_guide.results import Results
from petl_guide.verdict import ByTask, Control, Estimate, Evidence, over

MARGIN = 1.0  # points
FEWEST_SETTINGS = 2  # in which PEFT is ahead
FEWEST_UNITS = 5  # settings, for an interval over them; with fewer, over seeds
FEWEST_SEEDS = 3
LESS_MOVED = 10.0  # per cent, by which holding back should lower the displacement of weights


def many_images(results: Results) -> ByTask:
    """C9: with the most images of each task, the small setting that validation chooses minus full fine-tuning."""
    found = sweep.runs(results.table)
    sweep.check_many(found)
    found = found[found["images"] > sweep.MANY]
    most = found[found["images"] == found.groupby("task")["images"].transform("max")]
    trials = results.table[results.table["variant"] == "many_shot_trial"]
    full = most[most["method"] == "full"]
    choice = chosen(full.assign(task=full["spec_task"]).drop(columns="val"), trials)
    share = 100 * float(choice["edge"].mean())
    met = not choice["gained"].isna().any()
    edges = Control("full's rate at an end, % of tasks", share, MOST_AT_ENDS, share <= MOST_AT_ENDS, handicapped=met)
    handicaps = {} if edges.passes else choice["gained"].xs("full", level="method").to_dict()
    parts = {
        str(task): _of_task(results, part, edges, handicaps.get(part["spec_task"].iloc[0], 0.0))
        for task, part in most.groupby("task")
    }
    return ByTask(parts)


def _of_task(results: Results, found: pd.DataFrame, edges: Control, handicap: float) -> Evidence:
    small, linear = (sweep.chosen(found, methods=methods).iloc[0] for methods in (None, ["linear"]))
    estimate, told = _less_full(results, found, small)
    in_place, _ = _less_full(results, found, linear)
    control = Control("linear in its place, upper end", in_place.high, -MARGIN, in_place.high < -MARGIN)
    size = f" {small['size']}" if small["size"] else ""
    told = f"{small['method']}{size}, {small['percent']:.1f} % of the parameters, {small['images']:,} images; {told}"
    if handicap:
        told += f"; handicap {handicap:.2f}"
    return Evidence(
        unit="points above full",
        kind="not worse",
        margin=MARGIN,
        controls=(control, edges),
        sample="seeds and images",
        estimate=estimate,
        lessened=estimate.less(handicap),
        told=told,
    )


def _less_full(results: Results, found: pd.DataFrame, cell: pd.Series) -> tuple[Estimate, str]:
    mine = found[(found["method"] == cell["method"]) & (found["size"] == cell["size"])]
    return over_seeds_and_images(results, [(1, mine), (-1, found[found["method"] == "full"])])


def regulariser(results: Results) -> Evidence:
    """C10: where PEFT is ahead of full fine-tuning, the best full fine-tuning that is held back minus PEFT.

    Both are chosen on validation images. The unit is the setting (task and number of images), or with fewer than five
    the seed.
    """
    runs = mechanism.runs(results.table, results.records)
    peft, held = (_best(runs[runs["kind"].isin(kinds(runs))]) for kinds in (mechanism.small, mechanism.held))
    full = runs[runs["kind"] == "full"]
    tests = {name: _tests(part) for name, part in (("peft", peft), ("held", held), ("full", full))}
    lead = {key: over(by_seed.to_dict()) for key, by_seed in (tests["peft"] - tests["full"]).groupby(mechanism.SETTING)}
    ahead = [key for key, one in lead.items() if one.mean >= MARGIN and one.low > 0]
    told = "PEFT minus full: " + ", ".join(
        f"{task} at {images} {lead[task, images].mean:+.1f}" for task, images in lead
    )
    settings = Control("settings where PEFT is ahead", len(ahead), FEWEST_SETTINGS, len(ahead) >= FEWEST_SETTINGS)
    found = Evidence({}, "points, held-back full minus PEFT", "not worse", MARGIN, sample="settings", told=told)
    if not ahead:
        return replace(found, controls=(settings,), estimate=Estimate())
    here = [index for index in tests["peft"].index if index[:2] in ahead]
    gap = (tests["held"] - tests["peft"]).loc[here]
    moved = 100 * (1 - _moved(held, ahead) / _moved(full, ahead))
    less = Control("displacement lowered by, %", moved, LESS_MOVED, moved >= LESS_MOVED)
    found = replace(found, controls=(settings, less))
    if len(ahead) >= FEWEST_UNITS:
        by_setting = gap.groupby(mechanism.SETTING).mean()
        return replace(found, effects={f"{task} at {images}": value for (task, images), value in by_setting.items()})
    by_seed = gap.groupby("seed").mean()
    seeds = Control("seeds", len(by_seed), FEWEST_SEEDS, len(by_seed) >= FEWEST_SEEDS)
    effects = {str(seed): value for seed, value in by_seed.items()}
    return replace(found, effects=effects, sample="seeds", controls=(*found.controls, seeds))


def _best(found: pd.DataFrame) -> pd.DataFrame:
    """Of each setting the runs of the kind with the highest validation accuracy; the first of equal ones."""
    if found.empty or found["val"].isna().any():
        raise UserError(
            "PEFT methods and ways of holding full fine-tuning back are compared, chosen by trials; run all"
        )
    best = found.groupby([*mechanism.SETTING, "kind"])["val"].first().groupby(mechanism.SETTING).idxmax()
    wanted = set(best)
    return found[[key in wanted for key in found[[*mechanism.SETTING, "kind"]].itertuples(index=False, name=None)]]


def _tests(found: pd.DataFrame) -> pd.Series:
    return found.set_index([*mechanism.SETTING, "seed"])["test"].sort_index()


def _moved(found: pd.DataFrame, settings: list[tuple[str, int]]) -> float:
    """The mean displacement of weights in these settings."""
    return float(found.groupby(mechanism.SETTING)["weights"].mean().loc[settings].mean())
