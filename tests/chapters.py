"""What the tests of the teaching read in a chapter: its paragraphs by section, its links, and the numbers in its prose.

Not a test. A *number* here is one that could be a result: it has a decimal, a unit, four digits, or is a word from
"eleven" on. Numbers of sections, years, list items, formulas, code and names such as ViT-B/16 are none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from petl_guide import notebooks

ELEVEN_ON = ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
WORDS = {word: n for n, word in enumerate([*ELEVEN_ON, "twenty"], start=11)} | {"thirty": 30, "forty": 40, "fifty": 50}
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
UNIT = (
    r"(?:%|per\scent|points?|seconds?|ms|minutes?|hours?|days?|MB|kB|GB|px|pixels?|pictures?|images?|photographs?|runs?|"
    r"times|parameters?|numbers|tasks?|methods?|epochs?|trials?|steps?|bytes?|classes|claims?|settings?|blocks?|sites?|"
    r"tokens?|pairs?|seeds?|layers?|draws?|cells?|rules?|files?|things?|styles?|models?)(?!\w)"
)
NUMBER = re.compile(
    r"(?:(?<![\w./^])(?<![A-Za-z]-)(?P<digits>\d{1,3}(?:,\d{3})+|\d+)(?P<decimal>\.\d+)?(?![\w^])"
    rf"|\b(?P<word>{'|'.join(WORDS)})\b)(?:\s(?P<scale>{'|'.join(SCALES)}))?(?:[\s-]?(?P<unit>{UNIT}))?",
    re.IGNORECASE,
)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
PLACE = r"[Ss]ections?|[Cc]hapters?|[Ff]ig(?:ure|\.)?s?|[Tt]ables?|[Ee]quations?|[Ee]xercises?|issues?|seeds?"
REFERENCE = re.compile(rf"\b(?:{PLACE}) \d+(?:\.\d+)*[a-z]?(?:(?:, | and | or | to )\d+(?:\.\d+)?(?![\w%]| %))*")
NOT_PROSE = [
    re.compile(r"```.*?```", re.DOTALL),
    re.compile(r"`[^`]*`"),
    re.compile(r"\$\$.*?\$\$", re.DOTALL),
    re.compile(r"\$[^$]*\$"),
    re.compile(r"(?<=\])\([^)\s]+\)"),  # where a link leads
    re.compile(r"^#+ \d+(?:\.\d+)*\b(?: ·)?", re.MULTILINE),
    re.compile(r"^\s*\d\. ", re.MULTILINE),
    re.compile(r"\(●.. \w+, \d+ minutes\)|Time: \d+ minutes"),  # checked by test_prose
    re.compile(r"--\w+ \d+"),
    re.compile(r"\b(?:19|20)\d\d\b(?!\s*(?:%|images|runs|parameters))"),  # a year
    re.compile(r"#\d+"),  # a thread
    REFERENCE,
]


CHAPTERS = pytest.mark.parametrize("path", notebooks.sources(), ids=lambda path: path.stem)


@dataclass(frozen=True)
class Number:
    """A number in the prose: ``value`` in ``unit`` ("%" for per cent, "px", singular), known up to ``grain``, and
    ``shown`` as it stands there."""

    value: float
    unit: str
    grain: float
    shown: str


@dataclass(frozen=True)
class Piece:
    """A paragraph of prose, or a code cell, with the section or the exercise in which it stands."""

    section: str
    text: str
    code: bool
    cell: Any


@lru_cache
def cells(path: Path) -> list[Any]:
    """The cells of a chapter's source."""
    return notebooks.read(path).cells


@lru_cache
def executed(path: Path) -> list[Any]:
    """The cells of a chapter's committed notebook, with their outputs."""
    return notebooks.load(path.with_suffix(".ipynb")).cells


def chapter(number: str) -> Path:
    """The source of the chapter with this number."""
    (path,) = notebooks.sources([number])
    return path


def texts(found: Iterable[Any]) -> list[str]:
    """All that a reader reads: the paragraphs, and the sentences that stand in code."""
    return [text for piece in pieces(found) for text in (literal_texts(piece.text) if piece.code else [piece.text])]


def numbers(text: str) -> list[Number]:
    """The numbers in ``text`` that could be results."""
    for pattern in NOT_PROSE:
        text = pattern.sub(lambda found: " " * len(found[0]), text)
    found = []
    for match in NUMBER.finditer(text):
        scale = SCALES.get((match["scale"] or "").lower(), 1.0)
        unit = re.sub(r"\s+", " ", match["unit"] or "").lower()
        unit = {"per cent": "%", "classes": "class", "ms": "ms"}.get(unit, unit.removesuffix("s")).replace(
            "pixel", "px"
        )
        if match["word"]:
            value, decimals = float(WORDS[match["word"].lower()]), 0
        else:
            value = float(match["digits"].replace(",", "") + (match["decimal"] or ""))
            decimals = len(match["decimal"] or ".") - 1
        if match["word"] or unit or decimals or match["scale"] or value >= 1000:
            found.append(Number(value * scale, unit, scale * 10.0**-decimals, re.sub(r"\s+", " ", match[0])))
    return found


def pieces(cells: Iterable[Any]) -> Iterator[Piece]:
    """The paragraphs and code cells in order. A list item is a paragraph; an exercise is a section of its own."""
    section = ""
    for cell in cells:
        if cell.cell_type != "markdown":
            yield Piece(section, cell.source, True, cell)
            continue
        for part in re.split(r"\n\s*\n|\n(?=\s*[-*] |\s*\d\. |\|)", cell.source):
            if heading := re.match(r"##? (.+)", part):
                section = heading[1]
            if exercise := re.match(r"(?:## .+\n+)?\*\*(Exercise \d)\*\*", part):
                section = exercise[1]
            yield Piece(section, part, False, cell)


def literal_texts(code: str) -> Iterator[str]:
    """The sentences that stand in code: string constants with a space; what an f-string computes is left as ⟨⟩."""
    tree = ast.parse(code)
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in inside:
            inside |= {id(part) for part in ast.walk(node) if isinstance(part, ast.Constant | ast.JoinedStr)}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "⟨⟩" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and " " in str(node.value).strip() and id(node) not in inside:
            yield str(node.value)


@lru_cache
def constants(code: str) -> set[float]:
    """The numbers that the code itself uses."""
    nodes = (node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant))
    return {float(value) for value in nodes if isinstance(value, int | float) and not isinstance(value, bool)}


def output_text(cell: Any) -> str:
    """What a code cell shows, as text; tables as their HTML without tags."""
    shown = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        html = re.sub(r"<style.*?</style>|<[^>]+>", " ", str(data.get("text/html", "")), flags=re.DOTALL)
        shown += [output.get("text", ""), data.get("text/markdown", ""), html or data.get("text/plain", "")]
    return "\n".join(shown)
