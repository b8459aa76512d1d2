"""The index of claims: each claim of the ledger as an entry of a page, with both verdicts, by ``report.front``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from petl_guide.chapters import Chapter, chapters, section_link
from petl_guide.claims import table as claims
from petl_guide.facts import Facts
from petl_guide.verdict import CONTRADICTED, NOT_RUN, NOT_TESTABLE, SUPPORTED, UNDECIDED, Verdict

WORDS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN, NOT_TESTABLE)


def by_word(verdicts: Mapping[str, Verdict]) -> dict[str, list[str]]:
    """The numbers of the claims with each word, in the order of ``WORDS``; words that no claim has are left out."""
    found = {word: [number for number, its in verdicts.items() if its.verdict == word] for word in WORDS}
    return {word: numbers for word, numbers in found.items() if numbers}


def standing(facts: Facts) -> str:
    """One sentence: how many claims our records find supported, contradicted and so on, each linked to its entry."""
    words = by_word(facts.ours).items()
    found = ", ".join(f"{len(its)} {word} ({', '.join(_ref(number) for number in its)})" for word, its in words)
    return f"Of the {len(facts.ours)} claims of the study, our records find {found}."


def overview(facts: Facts) -> str:
    """The claims by verdict, on the published numbers and on our records, as two short lists."""
    ours = f"our records (profile {facts.results.profile.name})"
    lines = []
    for name, verdicts in (("the published numbers", facts.published), (ours, facts.ours)):
        lines.append(f"On {name}:\n")
        lines += [f"- {word}: {', '.join(map(_ref, numbers))}" for word, numbers in by_word(verdicts).items()]
        lines.append("")
    return "\n".join(lines).rstrip()


def _ref(number: str) -> str:
    return f"{{ref}}`{number} <{number.lower()}>`"


def index(facts: Facts) -> str:
    """Every claim with both verdicts, what is computed and what would refute it; anchors c1, c2, ..."""
    every = chapters()
    return "\n\n".join(_claim(claim, facts, every) for claim in claims.CLAIMS)


def _claim(claim: claims.Claim, facts: Facts, every: Mapping[str, Chapter]) -> str:
    section = claim.section
    where = every[f"{int(section.split('.')[0]):02d}"].sections[section]
    verdicts = {
        "On the published numbers": facts.published[claim.number],
        f"On our records (profile {facts.results.profile.name})": facts.ours[claim.number],
    }
    rows = {
        "The study's figure": escaped(claim.published),
        "What is computed": escaped(claim.check),
        "What would refute it": escaped(claim.falsifier),
        "Read on": section_link(section, every, f"section {section}, {where}"),
    }
    lines = [f"({claim.number.lower()})=", f"## {claim.number} · {claim.text.rstrip('.')}", ""]
    for where_found, verdict in verdicts.items():
        lines += [f"{where_found}: {verdict.verdict}", f": {_evidence(verdict)}", ""]
    return "\n".join([*lines, *(f"- *{name}:* {text}" for name, text in rows.items() if text != "–")])


def _evidence(verdict: Verdict) -> str:
    """What a verdict rests on: the effect and what is claimed of it, the control, the note."""
    said = []
    if verdict.size:
        side = "below" if verdict.below else "above"
        bound = f" (the claim: {side} {verdict.threshold + 0.0:.3g})" if math.isfinite(verdict.low) else ""
        said.append(verdict.size + bound)
    if verdict.control:
        kind = "*Control:*" if verdict.behaves else "*Control, which fails:*"
        said.append(f"{kind} {escaped(verdict.control)}")
    if verdict.note:
        said.append(f"*Note:* {escaped(verdict.note)}" if said else escaped(verdict.note))
    return ". ".join(said) + "." if said else "No effect."


def escaped(text: str) -> str:
    """Plain text as Markdown: what would be markup is shown as it is, but for ``code``."""
    pieces = re.split(r"``([^`]+)``", text)
    for i, piece in enumerate(pieces):
        pieces[i] = f"`{piece}`" if i % 2 else re.sub(r"([*_<>`$])", r"\\\1", piece)
    return "".join(pieces)
