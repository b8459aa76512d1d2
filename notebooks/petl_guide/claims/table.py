"""The claims ledger: each claim of the study as data, with its check on the published numbers and on our own records.

    python -m petl_guide claims [--profile laptop] [--json]

A check returns a ``Verdict``. "Undecided" is an answer: little data, or a control that is absent or does not behave.
The checks are in ``claims_published`` and ``claims_ours``; their rules were fixed before our numbers were computed,
except where chapter 08 says otherwise (C11, C12).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from petl_core.study.records import Records
from petl_core.utils import UserError
from petl_guide.claims import ours
from petl_guide.claims import published as theirs
from petl_guide.claims.verdict import NOT_RUN, NOT_TESTABLE, Verdict
from petl_guide.results import Results

PAPER = "Mai et al., CVPR 2025, arXiv 2409.16434"


@dataclass(frozen=True)
class Claim:
    """One claim. ``published``: the study's own figure; ``check``: what is computed; ``falsifier``: what refutes it.

    ``on_published`` takes nothing; ``on_ours`` takes the ``Results`` of a profile and raises ``UserError`` where their
    runs are missing, which makes "not run". None: nothing of this kind can decide the claim yet; ``why`` says why.
    """

    number: str
    chapter: str
    text: str
    published: str
    check: str
    falsifier: str
    on_published: Callable[[], Verdict] | None = None
    on_ours: Callable[[Results], Verdict] | None = None
    why_published: str = ""
    why_ours: str = ""
    source: str = PAPER


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1",
        "04",
        "Tuned with care, PEFT methods reach similar accuracy on VTAB-1K.",
        "relative standard deviation 1.09 % over methods (best epoch on test, without VPT-Shallow)",
        "deviation between methods against deviation between runs of one method",
        "methods differ clearly more than seeds of one method",
        theirs.similar,
        ours.similar,
    ),
    Claim(
        "C2",
        "04",
        "Simple methods are not inferior: tuning the biases alone competes.",
        "BitFit 75.8, best 77.7 (mean of groups, best epoch on test)",
        "BitFit minus the median of the other PEFT methods, task by task",
        "BitFit is more than two points below the median method",
        theirs.bitfit,
        ours.bitfit,
    ),
    Claim(
        "C3",
        "04",
        "With few labels, PEFT beats linear probing and full fine-tuning.",
        "mean of tasks: PEFT 71 to 74, full 58.5, linear 55.9 (last epoch)",
        "median PEFT method minus each baseline, task by task; the closer baseline decides",
        "a baseline tuned with the same care is level",
        theirs.beats_baselines,
        ours.beats_baselines,
    ),
    Claim(
        "C4",
        "04",
        "Drop path matters when labels are few: leaving it out hurts.",
        "stated without a table",
        "the same settings with and without drop path",
        "no gain from drop path with few labels",
        theirs.drop_path,
        ours.drop_path,
    ),
    Claim(
        "C5",
        "04",
        "Near the pre-training small methods rank high, far from it large ones.",
        "rank-frequency matrices of three groups; no measured distance",
        "over tasks: distance (what full gains on linear) against the rank correlation of parameters and accuracy",
        "the correlation does not grow with distance",
        theirs.affinity,
        ours.affinity,
    ),
    Claim(
        "C6",
        "05",
        "Methods of similar accuracy make different predictions.",
        "pairs of methods disagree on about 20 % of test images (DTD, Retinopathy), 35 % (DMLab)",
        "disagreement between methods minus that between seeds of one method",
        "seeds of one method disagree as much",
        None,
        ours.disagreement,
        why_published="no predictions were released, and no second seed was run",
    ),
    Claim(
        "C7",
        "05",
        "What methods are sure of and right about differs, so they carry complementary knowledge.",
        "LoRA, adapter and SSF share 47 to 49 % of their confident correct images (CIFAR-100)",
        "overlap of these sets between methods minus that between seeds; chance beside both",
        "other seeds overlap as little, or the overlap is that of chance",
        theirs.overlap,
        ours.overlap,
    ),
    Claim(
        "C8",
        "05",
        "Ensembles of PEFT methods gain consistently.",
        "gain over the worst method on each task",
        "ensembles of methods against ensembles of as many seeds, each over its own members",
        "seeds of one method gain as much",
        None,
        ours.ensembles,
        why_published="no predictions were released",
    ),
    Claim(
        "C9",
        "06",
        "With many images, 2 to 5 % of the parameters suffice to match full fine-tuning.",
        "CIFAR-100 93.1 against 87.5, RESISC45 97.6 against 97.3, CLEVR-distance 92.2 against 91.4",
        "best PEFT run with at most 5 % of the parameters minus full fine-tuning tuned down to low rates",
        "a well-tuned full fine-tuning is ahead",
        theirs.many_shot,
        ours.many_shot,
    ),
    Claim(
        "C10",
        "07",
        "PEFT works because it pairs high capacity with an effective regulariser.",
        "two kinds of task, with features that must move and with features that are good",
        "training accuracy, displacement of weights, and full fine-tuning with explicit regularisation",
        "explicit regularisation does not close the gap",
        None,
        ours.regulariser,
        why_published="no run with explicit regularisation and no displacement was published",
    ),
    Claim(
        "C11",
        "08",
        "PEFT alone keeps CLIP's robustness better than full fine-tuning.",
        "mean of four shifts: PEFT 54.7 to 56.9, full 42.5, zero-shot 58.7",
        "accuracy under shift, PEFT minus full, at matched accuracy on ImageNet",
        "at matched accuracy full fine-tuning is level",
        theirs.robustness,
        ours.robustness,
    ),
    Claim(
        "C12",
        "08",
        "Weight-space ensembles work for PEFT too.",
        "LoRA: shift 61.1 at alpha 0.4, zero-shot 58.7, tuned 55.9",
        "accuracy under shift halfway (alpha 0.5, fixed before) minus the better of both ends",
        "halfway is no better than the better end",
        theirs.interpolation,
        ours.interpolation,
    ),
    Claim(
        "C13",
        "08",
        "With weight-space ensembles, full fine-tuning has the better balance of target and shift.",
        "full at alpha 0.4: 77.0 on ImageNet, 59.4 under shift",
        "accuracy under shift at matched accuracy on ImageNet, full minus the best PEFT method",
        "PEFT is level or ahead at matched accuracy",
        theirs.balance,
        ours.balance,
    ),
    Claim(
        "C14",
        "12",
        "The findings hold on other backbones.",
        "an appendix, without numbers in the release",
        "the checks of C1 and C6 on a second backbone",
        "they come out otherwise there",
        None,
        ours.other_backbone,
        why_published="no numbers were released",
    ),
    Claim(
        "C15",
        "12",
        "First thorough and fair study of these methods.",
        "–",
        "none: a judgement, not a measurement; chapter 3 lists what a fair protocol needs and what was done",
        "–",
        None,
        None,
        why_published="a judgement, not a measurement",
        why_ours="a judgement, not a measurement",
    ),
)


def get(number: str) -> Claim:
    """The claim called ``number``. ``UserError`` listing the numbers if there is none."""
    for claim in CLAIMS:
        if claim.number == number:
            return claim
    raise UserError(f"unknown claim {number!r}; the claims are {', '.join(claim.number for claim in CLAIMS)}")


def on_published(claim: Claim) -> Verdict:
    """The claim's verdict on the published numbers."""
    return claim.on_published() if claim.on_published else Verdict(NOT_TESTABLE, note=claim.why_published)


def on_ours(claim: Claim, results: Results) -> Verdict:
    """The claim's verdict on our records of a profile; "not run", with what is missing, where they do not suffice."""
    if claim.on_ours is None:
        return Verdict(NOT_TESTABLE, note=claim.why_ours, profile=results.profile.name)
    found = ours.checked(claim.on_ours, results)
    if found.verdict == NOT_RUN:
        found = replace(found, note=f"{found.note}: python -m petl_core study --profile {results.profile.name}")
    return found.of(results.profile.name)


def ledger(results: Results) -> pd.DataFrame:
    """A row for each claim: number, chapter, claim, figure (theirs), published and ours (``Verdict``)."""
    rows = [
        (claim.number, claim.chapter, claim.text, claim.published, on_published(claim), on_ours(claim, results))
        for claim in CLAIMS
    ]
    return pd.DataFrame(rows, columns=["claim", "chapter", "text", "figure", "published", "ours"])


def changed(here: Results, there: Records) -> dict[str, tuple[str, str]]:
    """By number, the claims on which other records of the same runs give another verdict: the words here and there.

    ``UserError`` if ``there`` has none of the runs.
    """
    theirs = there.table().drop_duplicates("digest").drop(columns="variant")
    parts = here.table[["digest", "variant"]]  # there, a run may serve other parts of another profile
    same = Results(here.profile, there, fresh=False).of(parts.merge(theirs, on="digest")[here.table.columns])
    if same.table.empty:
        raise UserError(
            f"{there.root} has none of the runs in {here.records.root}; name another folder to compare with"
        )
    words = {claim.number: (on_ours(claim, here).verdict, on_ours(claim, same).verdict) for claim in CLAIMS}
    return {number: pair for number, pair in words.items() if pair[0] != pair[1]}


def as_json(results: Results) -> str:
    """The ledger as JSON, NaN as null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    rows = []
    for claim in CLAIMS:
        texts = {k: v for k, v in asdict(claim).items() if isinstance(v, str) and not k.startswith("why")}
        verdicts = {"on_published": asdict(on_published(claim)), "on_ours": asdict(on_ours(claim, results))}
        rows.append(plain(texts | verdicts))
    return json.dumps({"profile": results.profile.name, "claims": rows}, indent=1, allow_nan=False, ensure_ascii=False)


def as_text(results: Results) -> str:
    """The ledger for a terminal."""
    lines = [f"Claims of {PAPER}; published numbers, and ours at profile {results.profile.name}", ""]
    for claim in CLAIMS:
        lines.append(f"{claim.number:<4}{claim.text}")
        for name, verdict in (("published", on_published(claim)), ("ours", on_ours(claim, results))):
            lines.append(f"    {name + ':':<11}{verdict}")
    return "\n".join(lines)


__all__ = ["CLAIMS", "Claim", "Verdict", "as_json", "as_text", "changed", "get", "ledger", "on_ours", "on_published"]
