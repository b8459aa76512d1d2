"""The claims of the study, one row each: text, check, what the study gives, what cannot be true, why results differ.

    python -m petl_guide claims [--profile laptop] [--json]

A check gives numbers (``Evidence``), and ``verdict.judged`` says the word. "Undecided" is an answer: little data, or a
control that is absent or fails. The checks are in ``claims.published`` and ``claims.ours``; their rules were fixed
before our numbers were computed, except where chapter 08 says otherwise (C11, C12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from petl_core.study.records import Records
from petl_core.utils import UserError
from petl_guide.claims import false, ours
from petl_guide.claims import published as theirs
from petl_guide.claims.false import FalseCase
from petl_guide.results import Results
from petl_guide.verdict import NOT_RUN, NOT_TESTABLE, Evidence, Verdict, judged

PAPER = "Mai et al., CVPR 2025, arXiv 2409.16434"


@dataclass(frozen=True)
class Claim:
    """One claim. ``published``: the study's own figure; ``check``: what is computed; ``falsifier``: what refutes it.

    ``chapter`` explains the check, ``section`` examines it. ``on_published`` takes nothing; ``on_ours`` takes the
    ``Results`` of a profile and raises ``UserError`` where their runs are missing, which makes "not run". None: nothing
    of this kind can decide the claim yet; ``why_published``, ``why_ours`` say why.

    ``rests_on``: starts of the variants whose runs the verdict on ours rests on, for the user guide; ``false``: a case
    in which it cannot be true; ``differs``: where the published numbers and ours may part, and the likely reason.
    """

    number: str
    chapter: str
    section: str
    text: str
    published: str
    check: str
    falsifier: str
    on_published: Callable[[], Evidence] | None = None
    on_ours: Callable[[Results], Evidence | Verdict] | None = None
    rests_on: tuple[str, ...] = ()
    false: FalseCase | None = None
    differs: str = "see its chapter"
    why_published: str = ""
    why_ours: str = ""
    source: str = PAPER


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1",
        "04",
        "4.5",
        "Tuned with care, PEFT methods reach similar accuracy on VTAB-1K.",
        published="relative standard deviation 1.09 % over methods (best epoch on test, without VPT-Shallow)",
        check="deviation between methods against deviation between runs of one method",
        falsifier="methods differ clearly more than seeds of one method",
        on_published=theirs.similar,
        on_ours=ours.similar,
        false=false.APART,
        differs="theirs has no seeds to be compared with, and unequal trials; our tasks and methods spread more",
    ),
    Claim(
        "C2",
        "04",
        "4.7",
        "Simple methods are not inferior: tuning the biases alone competes.",
        published="BitFit 75.8, best 77.7 (mean of groups, best epoch on test)",
        check="BitFit minus the median of the other PEFT methods, task by task",
        falsifier="BitFit is more than two points below the median method",
        on_published=theirs.bitfit,
        on_ours=ours.bitfit,
        false=false.BITFIT_LOWER,
        differs="unequal trials there, equal ones here; a margin of two points was fixed for both",
    ),
    Claim(
        "C3",
        "04",
        "4.8",
        "With few labels, PEFT beats linear probing and full fine-tuning.",
        published="mean of tasks: PEFT 71 to 74, full 58.5, linear 55.9 (last epoch)",
        check="median PEFT method minus each baseline, task by task; the closer baseline decides",
        falsifier="a baseline tuned with the same care is level",
        on_published=theirs.beats_baselines,
        on_ours=ours.beats_baselines,
        rests_on=("tuned", "longer"),
        false=false.LOT,
        differs="their full fine-tuning had two high rates; ours goes down to 1e-5, on a small backbone and short runs",
    ),
    Claim(
        "C4",
        "04",
        "4.6",
        "Drop path matters when labels are few: leaving it out hurts.",
        published="stated without a table",
        check="the same settings with and without drop path",
        falsifier="no gain from drop path with few labels",
        on_published=theirs.drop_path,
        on_ours=ours.drop_path,
        rests_on=("drop_path",),
        false=false.DROP_PATH_BY_LOT,
        differs="their twins differ in augmentation between trials and final runs; ours switch drop path and nothing "
        "else",
    ),
    Claim(
        "C5",
        "04",
        "10.2",
        "Near the pre-training small methods rank high, far from it large ones.",
        published="rank-frequency matrices of three groups; no measured distance",
        check="over tasks: distance (what full gains on linear) against the rank correlation of parameters and "
        "accuracy",
        falsifier="the correlation does not grow with distance",
        on_published=theirs.affinity,
        on_ours=ours.affinity,
        false=false.LOT,
        differs="their larger methods had more trials; here trials are equal, and distance is measured",
    ),
    Claim(
        "C6",
        "05",
        "5.3",
        "Methods of similar accuracy make different predictions.",
        published="pairs of methods disagree on about 20 % of test images (DTD, Retinopathy), 35 % (DMLab)",
        check="disagreement between methods minus that between seeds of one method",
        falsifier="seeds of one method disagree as much",
        on_ours=ours.disagreement,
        false=false.LOT,
        why_published="no predictions were released, and no second seed was run",
    ),
    Claim(
        "C7",
        "05",
        "5.4",
        "What methods are sure of and right about differs, so they carry complementary knowledge.",
        published="LoRA, adapter and SSF share 47 to 49 % of their confident correct images (CIFAR-100)",
        check="overlap of these sets between methods minus that between seeds; chance beside both",
        falsifier="other seeds overlap as little, or the overlap is that of chance",
        on_published=theirs.overlap,
        on_ours=ours.overlap,
        false=false.LOT,
        differs="their overlap is that of unrelated sets; rows of our predictions were compared image by image",
    ),
    Claim(
        "C8",
        "05",
        "5.6",
        "Ensembles of PEFT methods gain consistently.",
        published="gain over the worst method on each task",
        check="ensembles of methods against ensembles of as many seeds, each over its own members",
        falsifier="seeds of one method gain as much",
        on_ours=ours.ensembles,
        rests_on=("tuned",),
        false=false.LOT,
        why_published="no predictions were released",
    ),
    Claim(
        "C9",
        "06",
        "6.3",
        "With many images, 2 to 5 % of the parameters suffice to match full fine-tuning.",
        published="CIFAR-100 93.1 against 87.5, RESISC45 97.6 against 97.3, CLEVR-distance 92.2 against 91.4",
        check="best PEFT run with at most 5 % of the parameters minus full fine-tuning tuned down to low rates",
        falsifier="a well-tuned full fine-tuning is ahead",
        on_published=theirs.many_shot,
        on_ours=ours.many_shot,
        rests_on=("many_shot",),
        false=false.SMALL_LOWER,
        differs="their full fine-tuning had high rates; here it is tuned like the rest",
    ),
    Claim(
        "C10",
        "07",
        "7.4",
        "PEFT works because it pairs high capacity with an effective regulariser.",
        published="two kinds of task, with features that must move and with features that are good",
        check="training accuracy, displacement of weights, and full fine-tuning with explicit regularisation",
        falsifier="explicit regularisation does not close the gap",
        on_ours=ours.regulariser,
        false=false.FULL_FAR_BEHIND,
        why_published="no run with explicit regularisation and no displacement was published",
    ),
    Claim(
        "C11",
        "08",
        "8.2",
        "PEFT alone keeps CLIP's robustness better than full fine-tuning.",
        published="mean of four shifts: PEFT 54.7 to 56.9, full 42.5, zero-shot 58.7",
        check="accuracy under shift, PEFT minus full, at matched accuracy on ImageNet",
        falsifier="at matched accuracy full fine-tuning is level",
        on_published=theirs.robustness,
        on_ours=ours.robustness,
        rests_on=("robustness",),
        differs="their full fine-tuning had the rate of PEFT; a comparison must be made at matched accuracy",
    ),
    Claim(
        "C12",
        "08",
        "8.3",
        "Weight-space ensembles work for PEFT too.",
        published="LoRA: shift 61.1 at alpha 0.4, zero-shot 58.7, tuned 55.9",
        check="accuracy under shift halfway (alpha 0.5, fixed before) minus the better of both ends",
        falsifier="halfway is no better than the better end",
        on_published=theirs.interpolation,
        on_ours=ours.interpolation,
        rests_on=("robustness_chosen",),
        differs="a world of rendered pictures here, ImageNet and its shifts there",
    ),
    Claim(
        "C13",
        "08",
        "8.4",
        "With weight-space ensembles, full fine-tuning has the better balance of target and shift.",
        published="full at alpha 0.4: 77.0 on ImageNet, 59.4 under shift",
        check="accuracy under shift at matched accuracy on ImageNet, full minus the best PEFT method",
        falsifier="PEFT is level or ahead at matched accuracy",
        on_published=theirs.balance,
        on_ours=ours.balance,
        rests_on=("robustness_chosen",),
        differs="only points of one pair of curves there; here seeds",
    ),
    Claim(
        "C14",
        "12",
        "12.7",
        "The findings hold on other backbones.",
        published="an appendix, without numbers in the release",
        check="the checks of C1 and C6 on a second backbone",
        falsifier="they come out otherwise there",
        on_ours=ours.other_backbone,
        why_published="no numbers were released",
    ),
    Claim(
        "C15",
        "12",
        "3.5",
        "First thorough and fair study of these methods.",
        published="–",
        check="none: a judgement, not a measurement; chapter 3 lists what a fair protocol needs and what was done",
        falsifier="–",
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
    return judged(claim.on_published()) if claim.on_published else Verdict(NOT_TESTABLE, note=claim.why_published)


def on_ours(claim: Claim, results: Results) -> Verdict:
    """The claim's verdict on our records of a profile; "not run", with what is missing, where they do not suffice."""
    if claim.on_ours is None:
        return Verdict(NOT_TESTABLE, note=claim.why_ours, profile=results.profile.name)
    found = replace(ours.checked(claim.on_ours, results), profile=results.profile.name)
    if found.verdict == NOT_RUN:
        return replace(found, note=f"{found.note}: python -m petl_core study --profile {found.profile}")
    return found


def on_false(claim: Claim, results: Results, seed: int = 0) -> Verdict:
    """The claim's verdict where it cannot be true: on our records after the change of its false case."""
    if claim.false is None:
        having = ", ".join(other.number for other in CLAIMS if other.false)
        raise UserError(f"there is no false case of claim {claim.number}; there are: {having}")
    return on_ours(claim, results.of(claim.false.change(results.table, np.random.default_rng(seed))))


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


def ledger(results: Results) -> pd.DataFrame:
    """A row for each claim: number, chapter, claim, figure (theirs), published and ours (``Verdict``)."""
    rows = [
        (claim.number, claim.chapter, claim.text, claim.published, on_published(claim), on_ours(claim, results))
        for claim in CLAIMS
    ]
    return pd.DataFrame(rows, columns=["claim", "chapter", "text", "figure", "published", "ours"])
