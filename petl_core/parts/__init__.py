"""The parts of the study: each a name that profiles use, with the runs behind it. A chapter's parts are one file."""

from __future__ import annotations

from petl_core.parts import low_shot, many_shot, mechanism, robustness, second_backbone
from petl_core.parts.plan import PartPlan

_FILES = (low_shot, many_shot, mechanism, robustness, second_backbone)
PARTS: dict[str, PartPlan] = {name: plan for file in _FILES for name, plan in file.PARTS.items()}
