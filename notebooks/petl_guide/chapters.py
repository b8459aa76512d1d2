"""The chapters as the pages of the book need them: title, question, what a reader needs first, minutes, sections.

All but the question is read from the notebooks' sources, so that a page cannot say something else than the chapter. The
first cell of a source must say ``You need: ... . Time: N minutes``. Sections are the headings that begin with their
number (``## 4.5 Methods against seeds``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from petl_core.utils import UserError
from petl_guide.notebooks import FOLDER

QUESTIONS = {
    "00": "Do I have to train all parameters of a pre-trained model?",
    "01": "What happens between pixels and logits, and where can a method act?",
    "02": "What does each method really change, and what remains of it afterwards?",
    "03": "When is a table that compares methods worth reading?",
    "04": "Are methods equally accurate once they are tuned with equal care?",
    "05": "Do they make different mistakes, and what is an ensemble of them worth?",
    "06": "Are few parameters enough with many images?",
    "07": "Why does it work: capacity, or regularisation?",
    "08": "What does tuning cost a CLIP model under shift, and what do weight-space ensembles give back?",
    "09": "Parameters, memory, time, merging: what is really saved?",
    "10": "Which method for my images?",
    "11": "How do I add my own method?",
    "12": "What does each claim of the study come to, on its numbers and on ours?",
}
TITLE = re.compile(r"^# # \d+ · (.+)$", re.MULTILINE)
NEEDS = re.compile(r"You need: (.+?)\. Time: (\d+) minutes")
SECTION = re.compile(r"^# ## (\d+\.\d+) (.+)$", re.MULTILINE)
LINK = re.compile(r"\[(\d+\.\d+)\]\([^)\s]*\)")  # a link to a section, on any page of the book


@dataclass(frozen=True)
class Chapter:
    """One chapter; ``sections`` maps numbers ("4.5") to headings."""

    number: str
    stem: str
    title: str
    question: str
    needs: str
    minutes: int
    sections: Mapping[str, str]

    @property
    def name(self) -> str:
        """As readers know it: "4 · Similar accuracy when tuned"."""
        return f"{int(self.number)} · {self.title}"


def read(source: Path) -> Chapter:
    """The chapter of a notebook's source. ``UserError`` that says what its first cell lacks."""
    text, number = source.read_text(encoding="utf-8"), source.name[:2]
    cell = text.partition("# %% [markdown]\n")[2].partition("\n# %%")[0]
    words = re.sub(r"\s+", " ", re.sub(r"^# ?", "", cell, flags=re.MULTILINE))
    title, needs = TITLE.search(cell), NEEDS.search(words)
    if title is None:
        raise UserError(f"{source.name}: its first cell must begin with a heading like '# 4 · Similar accuracy'")
    if needs is None:
        raise UserError(f"{source.name}: its first cell must say 'You need: …. Time: N minutes'")
    if number not in QUESTIONS:
        raise UserError(f"{source.name} has no question; add one to QUESTIONS in notebooks/petl_guide/chapters.py")
    sections = {found[1]: found[2].strip() for found in SECTION.finditer(text)}
    return Chapter(number, source.stem, title[1].strip(), QUESTIONS[number], needs[1], int(needs[2]), sections)


def chapters(folder: Path = FOLDER) -> dict[str, Chapter]:
    """All chapters by number, in order."""
    return {path.name[:2]: read(path) for path in sorted(folder.glob("[0-9][0-9]_*.py"))}


def slug(heading: str) -> str:
    """The anchor that MyST gives a heading (``myst_heading_anchors`` in book/_config.yml)."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def section_link(number: str, every: Mapping[str, Chapter], text: str = "") -> str:
    """A link from a page of the book to the section with this number. ``UserError`` if no chapter has it."""
    chapter = every.get(f"{int(number.split('.')[0]):02d}")
    if chapter is None or number not in chapter.sections:
        raise UserError(f"no chapter has a section {number}; the number of a heading was changed, or the link is wrong")
    return f"[{text or number}](notebooks/{chapter.stem}.ipynb#{slug(f'{number} {chapter.sections[number]}')})"


def mended(page: str, every: Mapping[str, Chapter]) -> str:
    """The page with every link to a section, ``[4.5](...)``, leading to where that section is now."""
    return LINK.sub(lambda found: section_link(found[1], every), page)


def chapter_map(every: Mapping[str, Chapter]) -> str:
    """For the book's front page: each chapter with its question, minutes and what it needs, as a definition list."""
    entries = []
    for chapter in every.values():
        link = f"[{chapter.name}](notebooks/{chapter.stem}.ipynb)"
        entries.append(f"{link}\n: {chapter.question} *{chapter.minutes} minutes.* You need: {chapter.needs}.")
    return "\n\n".join(entries)


def chapter_table(every: Mapping[str, Chapter]) -> str:
    """For the README: the same as a table, with links to the notebooks."""
    lines = ["| chapter | question | minutes |", "|---|---|---|"]
    for chapter in every.values():
        lines.append(f"| [{chapter.name}](notebooks/{chapter.stem}.ipynb) | {chapter.question} | {chapter.minutes} |")
    return "\n".join(lines)
