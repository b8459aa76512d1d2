"""The claims of the study, one row each: text, check, what the study gives, what cannot be true, why results differ.

The checks are in ``claims.published`` and ``claims.ours``; their rules were registered before the runs of our protocol.
The published numbers were known by then, so on them a rule registers nothing: it is only written down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from petl_guide.claims import false, ours
from petl_guide.claims import published as theirs
from petl_guide.claims.false import FalseCase
from petl_guide.results import Results
from petl_guide.verdict import Found

PAPER = "Mai et al., CVPR 2025, arXiv 2409.16434"


@dataclass(frozen=True)
class Claim:
    """One claim. ``published``: the study's own figure; ``check``: what is computed; ``falsifier``: what refutes it.

    ``chapter`` explains the check, ``section`` examines it. ``on_published`` takes nothing; ``on_ours`` takes the
    ``Results`` of a profile and raises ``UserError`` where their runs are missing, which makes "not run". None: nothing
    of this kind can decide the claim; ``why_published``, ``why_ours`` say why.

    ``rests_on``: starts of the variants whose runs the verdict on ours rests on, for the user guide; ``false``: a case
    in which it cannot be true; ``differs``: where the published numbers and ours may part, and the likely reason.
    ``counted``: is it one of the study's claims that can be measured?
    """

    number: str
    chapter: str
    section: str
    text: str
    published: str
    check: str
    falsifier: str
    on_published: Callable[[], Found] | None = None
    on_ours: Callable[[Results], Found] | None = None
    rests_on: tuple[str, ...] = ()
    false: FalseCase | None = None
    differs: str = "see its chapter"
    why_published: str = ""
    why_ours: str = ""
    counted: bool = True


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "04",
        "4.5",
        "Tuned with care, PEFT methods reach similar accuracy on VTAB-1K, on average over tasks.",
        published="relative standard deviation 1.09 % over methods (best epoch on test, without VPT-Shallow)",
        check="root mean square difference of two methods' means, less what methods' liking for tasks explains",
        falsifier="the means of two methods lie more than two points apart",
        on_published=theirs.similar_means,
        on_ours=ours.similar_means,
        rests_on=("tuned",),
        false=false.APART,
        differs="unequal trials there, equal ones here; our tasks and methods spread more",
    ),
    Claim(
        "C1b",
        "04",
        "4.5",
        "Tuned with care, PEFT methods reach similar accuracy on single tasks.",
        published="the same figure; no number for single tasks",
        check="root mean square difference of two methods on a task, less noise; the median over tasks",
        falsifier="on the middle task two methods lie more than two points apart",
        on_published=theirs.similar_tasks,
        on_ours=ours.similar_tasks,
        rests_on=("tuned",),
        false=false.APART,
        differs="one run a cell there, seeds here",
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
        rests_on=("tuned",),
        false=false.BITFIT_LOWER,
        differs="unequal trials there, equal ones here; a margin of two points was fixed for both",
    ),
    Claim(
        "C3a",
        "04",
        "4.8",
        "With few labels, PEFT beats linear probing.",
        published="mean of tasks: PEFT 71 to 74, linear 55.9 (last epoch)",
        check="median PEFT method minus linear probing, task by task",
        falsifier="linear probing tuned with the same care is level",
        on_published=theirs.above_linear,
        on_ours=ours.above_linear,
        rests_on=("tuned",),
        false=false.LOT,
        differs="two rates for linear probing there, six trials here",
    ),
    Claim(
        "C3b",
        "04",
        "4.8",
        "With few labels, PEFT beats full fine-tuning.",
        published="mean of tasks: PEFT 71 to 74, full 58.5 (last epoch)",
        check="median PEFT method minus full fine-tuning, task by task",
        falsifier="full fine-tuning tuned with the same care is level",
        on_published=theirs.above_full,
        on_ours=ours.above_full,
        rests_on=("tuned", "longer"),
        false=false.LOT,
        differs="their full fine-tuning had two high rates; ours is tuned like the rest, on a small backbone",
    ),
    Claim(
        "C3r",
        "04",
        "4.11",
        "Nearer to the pre-training, at higher resolution, PEFT gains on full fine-tuning.",
        published="–",
        check="LoRA minus full fine-tuning at 224 pixels, less the same at 64: same pictures, same backbone",
        falsifier="the difference is the same at both resolutions, or falls",
        on_ours=ours.resolution,
        rests_on=("resolution",),
        false=false.LOT_AT_RESOLUTIONS,
        why_published="an experiment of this guide's own, beside the study's claims",
        counted=False,
    ),
    Claim(
        "C4",
        "04",
        "4.6",
        "Drop path matters when labels are few: leaving it out hurts.",
        published="stated without a table",
        check="the same settings and seeds with and without drop path, on tasks whose training images are fitted",
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
        check="what ten times the parameters gain on far tasks (large error of linear probing), less that on near ones",
        falsifier="parameters gain no more on far tasks than on near ones",
        on_published=theirs.size_and_distance,
        on_ours=ours.size_and_distance,
        rests_on=("tuned",),
        false=false.LOT,
        differs="their larger methods had more trials and near means Natural; here trials are equal, distance measured",
    ),
    Claim(
        "C6",
        "05",
        "5.3",
        "Methods of similar accuracy make different predictions.",
        published="pairs of methods disagree on about 20 % of test images (DTD, Retinopathy), 35 % (DMLab)",
        check="disagreement of two methods within two points minus that of two seeds of one method",
        falsifier="seeds of one method disagree as much",
        on_ours=ours.disagreement,
        rests_on=("tuned",),
        false=false.LOT,
        why_published="no predictions were released, and no second seed was run",
    ),
    Claim(
        "C7",
        "05",
        "5.4",
        "What methods are sure of and right about differs, so they carry complementary knowledge.",
        published="LoRA, adapter and SSF share 47 to 49 % of their confident correct images (CIFAR-100)",
        check="what two seeds share of these sets minus what two methods of like accuracy share",
        falsifier="other seeds overlap as little, or the overlap is that of chance",
        on_published=theirs.overlap,
        on_ours=ours.overlap,
        rests_on=("tuned",),
        false=false.LOT,
        differs="their overlap is that of unrelated sets; rows of our predictions were compared image by image",
    ),
    Claim(
        "C8a",
        "05",
        "5.6",
        "An ensemble of PEFT methods is better than the best single one.",
        published="gain over the worst method on each task",
        check="ensemble of the three methods that validation puts first, minus the first of them",
        falsifier="the first method alone is level",
        on_ours=ours.ensembles_single,
        rests_on=("tuned",),
        false=false.ONE_ANSWER,
        why_published="no predictions were released",
    ),
    Claim(
        "C8b",
        "05",
        "5.6",
        "An ensemble of PEFT methods is better than one of seeds.",
        published="–",
        check="the same ensemble minus one of three seeds of the first method",
        falsifier="seeds of one method gain as much",
        on_ours=ours.ensembles_seeds,
        rests_on=("tuned",),
        false=false.ONE_ANSWER,
        why_published="no predictions were released, and no second seed was run",
    ),
    Claim(
        "C9",
        "06",
        "6.3",
        "With many images, 2 to 5 % of the parameters suffice to match full fine-tuning.",
        published="CIFAR-100 93.1 against 87.5, RESISC45 97.6 against 97.3, CLEVR-distance 92.2 against 91.4",
        check="the setting with at most 5 % of the parameters that validation chooses minus full, on each task",
        falsifier="a well-tuned full fine-tuning is more than a point ahead",
        on_published=theirs.many_images,
        on_ours=ours.many_images,
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
        check="where PEFT is ahead: full fine-tuning held back by explicit regularisation minus PEFT",
        falsifier="explicit regularisation does not close the gap",
        on_ours=ours.regulariser,
        rests_on=("mechanism", "held_back"),
        false=false.FULL_FAR_BEHIND,
        why_published="no run with explicit regularisation and no displacement was published",
    ),
    Claim(
        "C11",
        "08",
        "8.2",
        "PEFT alone keeps CLIP's robustness better than full fine-tuning.",
        published="mean of four shifts: PEFT 54.7 to 56.9, full 42.5, zero-shot 58.7",
        check="accuracy under shift, PEFT minus full between its rates, at matched accuracy on the target",
        falsifier="at matched accuracy full fine-tuning is level",
        on_published=theirs.robustness,
        on_ours=ours.robustness,
        rests_on=("robustness",),
        false=false.WORLD_BY_LOT,
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
        false=false.WORLD_BY_LOT,
        differs="a world of rendered pictures and drawings here, ImageNet and its shifts there",
    ),
    Claim(
        "C13",
        "08",
        "8.4",
        "With weight-space ensembles, full fine-tuning has the better balance of target and shift.",
        published="full at alpha 0.4: 77.0 on ImageNet, 59.4 under shift",
        check="accuracy under shift at matched accuracy on the target, full minus the best PEFT curve; and their tops",
        falsifier="PEFT is level or ahead at matched accuracy",
        on_published=theirs.balance,
        on_ours=ours.balance,
        rests_on=("robustness_chosen",),
        false=false.WORLD_BY_LOT,
        differs="only one pair of curves there; here seeds",
    ),
    Claim(
        "C14",
        "12",
        "12.7",
        "The findings hold on other backbones.",
        published="an appendix, without numbers in the release",
        check="the words of C1a, C2, C3a, C3b, C6, C7 and C8a on both kinds of our records, of the methods both have",
        falsifier="two of them or more are opposite",
        on_ours=ours.elsewhere,
        rests_on=("tuned",),
        false=false.LOT,
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
        counted=False,
        why_published="a judgement, not a measurement",
        why_ours="a judgement, not a measurement",
    ),
)
