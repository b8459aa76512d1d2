"""Intervals over seeds and test images at once, for what only a few runs on one task can say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from petl_core.data.embedded import parts_of_name
from petl_core.study import predictions
from petl_core.utils import UserError
from petl_guide.results import Results
from petl_guide.verdict import Estimate, of_draws

DRAWS = 2000


def over_seeds_and_images(results: Results, groups: Sequence[tuple[int, pd.DataFrame]]) -> tuple[Estimate, str]:
    """A signed sum of accuracies with percentiles of draws of seeds and of images; and what the images' part rests on.

    ``groups``: of each term its sign and its final runs, one a seed, all with the same seeds, on the same images.
    Where all kept their predictions, images are drawn in pairs; else their noise is that of independent binomials.
    """
    ordered = [(sign, runs.sort_values("seed")) for sign, runs in groups]
    if len({tuple(runs["seed"]) for _, runs in ordered}) != 1:
        raise UserError("these runs have not the same seeds; run the study again")
    by_seed = np.sum([sign * runs["accuracy"].to_numpy() for sign, runs in ordered], axis=0)
    random = np.random.default_rng(0)
    seeds = len(by_seed)
    picks = random.integers(0, seeds, (DRAWS, seeds))
    weights = np.stack([np.bincount(row, minlength=seeds) for row in picks]) / seeds
    drawn = weights @ by_seed
    if all(results.records.get(digest)["predictions"] for _, runs in ordered for digest in runs["digest"]):
        right = np.sum([sign * _correct(results, runs) for sign, runs in ordered], axis=0)
        rest = 100 * (right - right.mean(axis=1, keepdims=True))
        images = rest.shape[1]
        for draw in range(DRAWS):
            drawn[draw] += float((weights[draw] @ rest)[random.integers(0, images, images)].mean())
        told = f"{images:,} images drawn in pairs"
    else:
        images = _images(results, ordered[0][1])
        means = [runs["accuracy"].mean() / 100 for _, runs in ordered]
        drawn += 100 * random.normal(0, np.sqrt(sum(a * (1 - a) for a in means) / images), DRAWS)
        told = f"no predictions kept: {images:,} images as independent binomials"
    return of_draws(float(by_seed.mean()), drawn, seeds), told


def _correct(results: Results, runs: pd.DataFrame) -> np.ndarray:
    """(seeds, images), 1 where the run is right."""
    return predictions.load(results.records, runs).correct.astype(float)


def _images(results: Results, runs: pd.DataFrame) -> int:
    """How many test images these runs had: as many as any run on the same task that kept its predictions."""
    task = parts_of_name(str(runs["task"].iloc[0]))[0]
    finals = results.table[results.table["stage"] == "final"]
    for row in finals.itertuples():
        if parts_of_name(str(row.task))[0] == task and results.records.get(row.digest)["predictions"]:
            return len(results.records.predictions(row.digest)[1])
    raise UserError(f"no run on {task} has kept its predictions, so the number of test images is not known")
