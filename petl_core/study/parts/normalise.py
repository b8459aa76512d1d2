"""A part of chapter 03: the same method and task with images normalised in three ways, each tuned with equal trials.

The study's sweeps trained on images in [0, 1], its released command line on ImageNet's statistics, and the backbone was
pre-trained with a mean and deviation of 0.5: which of these is used is a choice like the learning rate.
"""

from __future__ import annotations

from petl_core.study.executor import Planned
from petl_core.study.parts.plan import Cells, PartPlan, our_trials_of
from petl_core.study.profile import Profile
from petl_core.study.protocol import choose, final_specs
from petl_core.study.records import Records
from petl_core.training.train import CHOICES


def _trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [
        Planned(spec, f"normalise_{normalise}_trial")
        for cell in cells
        for normalise in CHOICES["normalise"]
        for spec in our_trials_of(study, *cell, records, normalise=normalise)
    ]


def _finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for cell in cells:
        for normalise in CHOICES["normalise"]:
            chosen = choose(our_trials_of(study, *cell, records, normalise=normalise), records)
            if chosen is not None:
                plan += [Planned(spec, f"normalise_{normalise}") for spec in final_specs(study, chosen)]
    return plan


PARTS = {
    "normalise": PartPlan(
        "images normalised for the backbone, with ImageNet's statistics, and not at all (normalise_backbone, ...)",
        _finals,
        _trials,
    ),
}
