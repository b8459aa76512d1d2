"""The parts of the study: each a name that profiles use, with the runs behind it. A chapter's parts are one file."""

from __future__ import annotations

from petl_core.study.parts import controls, low_shot, many_shot, mechanism, normalise, robustness, second_backbone
from petl_core.study.parts.plan import PartPlan

CHAPTERS = (low_shot, normalise, many_shot, mechanism, robustness, second_backbone, controls)
PARTS: dict[str, PartPlan] = {name: plan for chapter in CHAPTERS for name, plan in chapter.PARTS.items()}
