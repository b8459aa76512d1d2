"""The user guide: for each situation a recommendation computed from our records, beside the study's advice.

A situation is data: either a function ``Results -> Finding``, or a claim of the ledger with a text for each verdict.
Where the runs are missing the row says "not run", so that rows fill in when records come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from petl_core.study.profile import Profile
from petl_core.study.time import HEAD, Speed
from petl_core.utils import DATA, UserError
from petl_guide import costs
from petl_guide import runs as select
from petl_guide.claims import table as claims
from petl_guide.figures.style import title
from petl_guide.figures.tables import points
from petl_guide.low_shot import tuning
from petl_guide.picks import FAR, LOSS, NEAR, digests, gap, kind_of_task, pick, recommended, size_pays, tuned_runs
from petl_guide.results import Results
from petl_guide.verdict import HETEROGENEOUS, NOT_RUN, NOT_TESTABLE, Evidence, Verdict, judged

AGREES, DISAGREES, OPEN = "agrees", "disagrees", "open"
OTHERWISE = {HETEROGENEOUS: "depends on the task", NOT_RUN: "not run", NOT_TESTABLE: "no advice"}
COSTS = DATA / "costs"


@dataclass(frozen=True)
class Finding:
    """What our records say: ``verdict`` on the study's advice, a recommendation, and the digests behind both."""

    recommendation: str
    verdict: Verdict
    digests: frozenset[str] = frozenset()

    @property
    def agreement(self) -> str:
        if self.verdict.speaks_for:
            return AGREES
        return DISAGREES if self.verdict.speaks_against else OTHERWISE.get(self.verdict.verdict, OPEN)


@dataclass(frozen=True)
class Situation:
    """A row of the guide. ``advice``: the study's, in our words. Ours is what ``find`` computes, or what the ``claim``
    of the ledger comes to: recommended is then the text of its verdict."""

    name: str
    chapter: str
    advice: str
    find: Callable[[Results], Finding] | None = None
    claim: str = ""
    supported: str = ""
    contradicted: str = ""
    undecided: str = ""


def parts_of(profile: Profile) -> list[str]:
    """The parts of the profile's study that the situations rest on."""
    of_claims = [claims.get(situation.claim).rests_on for situation in SITUATIONS if situation.claim]
    starts = ("tuned", "default", *(start for rests_on in of_claims for start in rests_on))
    return [part.name for part in profile.parts if part.name.startswith(starts) or f"{part.name}_chosen" in starts]


def speeds(runs: pd.DataFrame, epochs: int) -> dict[str, Speed]:
    """How fast each method was in these records' final runs, for ``petl_core.study.budget``.

    A run trained on 1,000 images for ``epochs`` and tested on as many; testing counts as a third of training, and where
    the head alone is trained each image passed the backbone once.
    """
    found = {}
    for method, part in runs.groupby("method"):
        seconds, head_only = float(part["seconds"].mean()), not part["params"].any()
        each = seconds / (2000 if head_only else 1000 * epochs + 1000 / 3)
        evaluate = each if head_only else each / 3
        found[str(method)] = Speed(0.0, HEAD * each if head_only else each, evaluate, head_only)
    return found


def _of_kind(results: Results, kind: str) -> pd.DataFrame:
    runs = tuned_runs(results)
    tasks = kind_of_task(runs).get(kind, [])
    if not tasks:
        raise UserError(f"no tasks are {kind}; there are runs of {runs['task'].nunique()} task(s)")
    return runs[runs["task"].isin(tasks)]


def _near(results: Results) -> Finding:
    runs = _of_kind(results, NEAR)
    saved = {str(task): -points for task, points in size_pays(runs).items()}
    unit = "points, small minus large methods"
    verdict = judged(Evidence(saved, unit, "not worse", LOSS, sample="nearer tasks"))
    small = recommended(runs, NEAR)
    text = f"{title(small.method)} ({small.params:,.0f} parameters): the smallest within {LOSS:g} points"
    return Finding(text, verdict, frozenset(runs["digest"]))


def _far(results: Results) -> Finding:
    runs = _of_kind(results, FAR)
    gained = {str(task): points for task, points in size_pays(runs).items()}
    verdict = judged(Evidence(gained, "points, large minus small methods", margin=LOSS, sample="farther tasks"))
    peft = recommended(runs, FAR)
    text = title(peft.best)
    if peft.best != peft.method:
        text += f"; of the PEFT methods {title(peft.method)}"
    return Finding(text, verdict, frozenset(runs["digest"]))


def _merging(results: Results) -> Finding:
    runs = tuned_runs(results)
    peft = select.peft(runs["method"])
    best, merging = pick(runs, only=peft).method, pick(runs, only=peft, mergeable=True).method
    cost = gap(runs, merging, best)
    text = title(merging)
    if merging != best:
        text += f"; {points(cost.mean, cost.low, cost.high)} from {title(best)}"
    unit = f"points from {title(best)}"
    verdict = Verdict(NOT_TESTABLE, cost.mean, cost.low, cost.high, cost.n, unit, reason="no advice")
    return Finding(text, verdict, digests(runs, merging, best))


def memory(_: Results, folder: Path = COSTS) -> Finding:
    """From the newest kind of file that chapter 9 leaves in ``data/costs``: exact bytes of a training step."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UserError("no file of costs is in data/costs (chapter 9): python -m petl_make costs --help")
    rows = pd.DataFrame(costs.read(files[-1])["methods"]).set_index("method")
    share = 100 * rows.loc[select.peft(rows.index), "memory"] / rows.loc["full", "memory"]
    least = str(share.idxmin())
    text = f"{title(least)}: {share[least]:.0f} % of full fine-tuning's memory ({files[-1].stem})"
    told = f"PEFT methods need {share.min():.0f} to {share.max():.0f} %"
    return Finding(text, Verdict(NOT_TESTABLE, told=told, n=len(share), sample="methods"))


def _untuned(results: Results) -> Finding:
    effect = tuning.paired(results.table, "tuned", "default")
    default, tuned = select.runs(results.table, "default"), tuned_runs(results)
    unit = f"points, tuned minus default, {effect['method'].nunique()} methods"
    sample = tuning.sample(effect)
    means = {str(one): float(mean) for one, mean in effect.groupby(sample[:-1])["difference"].mean().items()}
    evidence = Evidence(means, unit, sample=sample)
    text = f"tune the learning rate first; if there is no time, {title(pick(default).method)}"
    compared = tuned[tuned["task"].isin(default["task"])]
    return Finding(text, judged(evidence), frozenset(default["digest"]) | frozenset(compared["digest"]))


def _of_claim(situation: Situation, results: Results) -> Finding:
    """The situation as a claim of the ledger decides it."""
    claim = claims.get(situation.claim)
    verdict = claims.on_ours(claim, results)
    if verdict.verdict == NOT_RUN:
        return Finding("", verdict)
    mine = results.table["variant"].str.startswith(claim.rests_on)
    finding = Finding(situation.undecided, verdict, frozenset(results.table.loc[mine, "digest"]))
    texts = {AGREES: situation.supported, DISAGREES: situation.contradicted}
    return replace(finding, recommendation=texts.get(finding.agreement, situation.undecided))


SITUATIONS = (
    Situation(
        "few labels: PEFT, linear or full?",
        "04",
        "PEFT, not linear probing or full fine-tuning; accuracies are similar, so choose by practical criteria",
        claim="C3b",
        supported="PEFT",
        contradicted="full fine-tuning, with learning rates of its own, if you can store a whole model for each task",
        undecided="PEFT for its size; a well-tuned baseline may be level",
    ),
    Situation(
        "few labels, near the pre-training",
        "04",
        "the cheapest method is enough (DiffFit, SSF, LayerNorm, BitFit)",
        find=_near,
    ),
    Situation(
        "few labels, far from the pre-training",
        "04",
        "more capacity (ConvPass, Houlsby or Pfeiffer adapters, AdaptFormer, RepAdapter)",
        find=_far,
    ),
    Situation(
        "few labels: drop path?",
        "04",
        "yes, 0.1",
        claim="C4",
        supported="on",
        contradicted="off",
        undecided="try both: two trials decide it",
    ),
    Situation("no time to tune", "04", "tune learning rate, weight decay, size and scale", find=_untuned),
    Situation(
        "many labels",
        "06",
        "PEFT with 2 to 5 % of the parameters instead of full fine-tuning",
        claim="C9",
        supported="PEFT with up to 5 % of the parameters",
        contradicted="full fine-tuning, with learning rates of its own",
        undecided="PEFT or full fine-tuning, undecided; PEFT where many models must be kept",
    ),
    Situation("little memory for training", "09", "none: cost was outside its scope", find=memory),
    Situation("must merge into a plain ViT", "02", "none: cost was outside its scope", find=_merging),
    Situation(
        "time to spare at prediction",
        "05",
        "an ensemble of several PEFT methods",
        claim="C8b",
        supported="an ensemble of different methods of like accuracy; seeds of one give part of it",
        contradicted="an ensemble of seeds of the best method",
        undecided="an ensemble, of methods or of seeds",
    ),
    Situation(
        "images will shift after training",
        "08",
        "PEFT rather than plain full fine-tuning",
        claim="C11",
        supported="PEFT",
        contradicted="full fine-tuning",
        undecided="PEFT or full fine-tuning; undecided at matched accuracy",
    ),
    Situation(
        "shift, and the model is PEFT",
        "08",
        "weight-space ensemble with the pre-trained model, alpha about 0.4 to 0.9",
        claim="C12",
        supported="interpolate(model, 0.5)",
        contradicted="keep the better end",
        undecided="try interpolate(model, alpha)",
    ),
    Situation(
        "shift, and the highest accuracy too",
        "08",
        "full fine-tuning with a weight-space ensemble",
        claim="C13",
        supported="full fine-tuning, interpolated",
        contradicted="PEFT, interpolated",
        undecided="either, interpolated",
    ),
)


def findings(results: Results) -> dict[str, Finding]:
    """The finding for each situation; "not run" with what is missing where there are no runs for it."""
    found = {}
    for situation in SITUATIONS:
        try:
            mine = situation.find(results) if situation.find else _of_claim(situation, results)
        except UserError as error:
            mine = Finding("", Verdict(NOT_RUN, reason=str(error)))
        found[situation.name] = mine
    return found


def decision_table(found: Mapping[str, Finding]) -> pd.DataFrame:
    """Columns situation, chapter, recommended here, evidence, runs, the study's advice, ours."""
    rows = []
    for situation in SITUATIONS:
        finding = found[situation.name]
        evidence = finding.verdict.size or finding.verdict.told or finding.verdict.reason
        if finding.verdict.verdict == NOT_RUN:
            evidence = f"not run: {finding.verdict.reason}"
        recommended_here, runs = finding.recommendation or "–", len(finding.digests) or np.nan
        ours = finding.agreement
        rows.append((situation.name, recommended_here, evidence, runs, situation.advice, ours, situation.chapter))
    columns = ["situation", "recommended here", "evidence", "runs", "the study's advice", "ours", "chapter"]
    return pd.DataFrame(rows, columns=columns)
