"""The part about claim C14: the protocol "tuned" once more with another backbone, kept apart by its variant."""

from __future__ import annotations

from petl_core.study.executor import Planned
from petl_core.study.parts.plan import Cells, PartPlan, our_choices, our_trials_of
from petl_core.study.profile import Profile
from petl_core.study.protocol import final_specs
from petl_core.study.records import Records


def _trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [Planned(spec, "second_backbone_trial") for cell in cells for spec in our_trials_of(study, *cell, records)]


def _finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    found = our_choices(study, cells, records)
    return [Planned(spec, "second_backbone") for chosen in found for spec in final_specs(study, chosen)]


PARTS = {
    "second_backbone": PartPlan(
        "our protocol with another backbone, the part's own: do the findings hold there?", _finals, _trials
    ),
}
