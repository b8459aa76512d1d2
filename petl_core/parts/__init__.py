"""The parts of the study: each a name that profiles use, with the runs behind it. A chapter's parts are one file."""

from __future__ import annotations

from petl_core.parts import low_shot, many_shot, mechanism, robustness
from petl_core.parts.plan import PartPlan

PARTS: dict[str, PartPlan] = {**low_shot.PARTS, **many_shot.PARTS, **mechanism.PARTS, **robustness.PARTS}
