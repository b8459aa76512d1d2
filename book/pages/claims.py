"""The index of claims: each claim of the ledger as an entry of a page, with its verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from petl_guide.chapters import Chapter, chapters, section_link
from petl_guide.claims import table as claims
from petl_guide.facts import Facts
from petl_guide.verdict import DECIDED, NOT_RUN, NOT_TESTABLE, UNDECIDED, Verdict

WORDS = (*DECIDED, UNDECIDED, NOT_RUN, NOT_TESTABLE)
NAMES = {claims.PUBLISHED: "the published numbers", claims.PHOTOGRAPHS: "photographs", claims.LAPTOP: "the small suite"}
COUNTED = [claim.number for claim in claims.CLAIMS if claim.counted]


def by_word(verdicts: Mapping[str, Verdict]) -> dict[str, list[str]]:
    """The counted claims with each word, in the order of ``WORDS``; words that no claim has are left out."""
    found = {word: [number for number in COUNTED if verdicts[number].verdict == word] for word in WORDS}
    return {word: numbers for word, numbers in found.items() if numbers}


def standing(facts: Facts) -> str:
    """How many claims each kind of evidence finds supported, contradicted and so on, each linked to its entry."""
    return f"{len(COUNTED)} claims of the study can be measured. They come to:\n\n{overview(facts)}"


def overview(facts: Facts) -> str:
    """The claims by verdict, a list for each kind of evidence."""
    lines = []
    for source, verdicts in facts.verdicts.items():
        said = [f"{len(its)} {word} ({', '.join(map(_ref, its))})" for word, its in by_word(verdicts).items()]
        lines.append(f"- on {NAMES[source]}: {', '.join(said)}")
    return "\n".join(lines)


def _ref(number: str) -> str:
    return f"{{ref}}`{number} <{number.lower()}>`"


def index(facts: Facts) -> str:
    """Every claim with its verdicts, what is computed and what would refute it; anchors c1a, c1b, c2, ..."""
    every = chapters()
    return "\n\n".join(_claim(claim, facts, every) for claim in claims.CLAIMS)


def _claim(claim: claims.Claim, facts: Facts, every: Mapping[str, Chapter]) -> str:
    section = claim.section
    where = every[f"{int(section.split('.')[0]):02d}"].sections[section]
    rows = {
        "The study's figure": escaped(claim.published),
        "What is computed": escaped(claim.check),
        "What would refute it": escaped(claim.falsifier),
        "Read on": section_link(section, every, f"section {section}, {where}"),
    }
    lines = [f"({claim.number.lower()})=", f"## {claim.number} · {claim.text.rstrip('.')}", ""]
    for source, verdicts in facts.verdicts.items():
        verdict = verdicts[claim.number]
        profile = f" (profile {verdict.profile})" if verdict.profile else ""
        lines += [f"On {NAMES[source]}{profile}: {verdict.verdict}", f": {evidence(verdict)}", ""]
    return "\n".join([*lines, *(f"- *{name}:* {text}" for name, text in rows.items() if text != "–")])


def evidence(verdict: Verdict) -> str:
    """What a verdict rests on: the effect and what is claimed of it, its controls, the reason, what stands beside."""
    said = []
    if verdict.size:
        side = "below" if verdict.kind == "alike" else "above"
        bound = f" (the claim: {side} {verdict.threshold + 0.0:.3g})" if math.isfinite(verdict.low) else ""
        said.append(verdict.size + bound)
    if kept := [str(control) for control in verdict.controls if control.passes]:
        said.append(f"*Controls that pass:* {escaped(', '.join(kept))}")
    if verdict.reason:
        said.append(f"*Why:* {escaped(verdict.reason)}" if said else escaped(verdict.reason))
    if verdict.told:
        said.append(f"*Beside it:* {escaped(verdict.told)}" if said else escaped(verdict.told))
    return ". ".join(said) + "." if said else "No effect."


def escaped(text: str) -> str:
    """Plain text as Markdown: what would be markup is shown as it is, but for ``code``."""
    pieces = re.split(r"``([^`]+)``", text)
    for i, piece in enumerate(pieces):
        pieces[i] = f"`{piece}`" if i % 2 else re.sub(r"([*_<>`$])", r"\\\1", piece)
    return "".join(pieces)
