"""The catalogue of methods, computed from the registry and from the docstrings of the methods' files.

A method's docstring says all of ``FIELDS``, so the page needs no text of its own. Papers are found in
book/references.bib by their arXiv number.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from book.pages.claims import escaped
from petl_core.methods import Method
from petl_core.methods.base import registry
from petl_core.models.weights import config_of
from petl_core.utils import UserError
from petl_core.vit import ViTConfig
from petl_guide.chapters import Chapter, chapters, section_link
from petl_guide.figures.style import FAMILIES

REFERENCE = "vit_base_patch16_224"  # the backbone whose parameters are counted
HEADINGS = dict(
    zip(
        FAMILIES,
        ("Baselines", "Selective and affine methods", "Low-rank methods", "Adapters", "Prompts", "Others"),
        strict=True,
    )
)
FIELDS = ("Paper", "Formula", "Sites", "Parameters", "Merges", "Released code")  # of a method's docstring
ARXIV = re.compile(r"(?i)arxiv(?:\.org/\w+/|[\s.:]+)(\d{4}\.\d{4,5})")
FAMILY_SECTIONS = {"baseline": "2.2", "selective": "2.2", "low-rank": "2.4", "adapter": "2.5", "prompt": "2.6"}
AFFINE = ("ssf", "difffit")  # selective by colour, derived in a section of their own
AFFINE_SECTION = "2.3"


def described(cls: type[Method]) -> dict[str, str]:
    """The fields of a method's docstring, and as "Idea" what its first line says after the colon.

    ``UserError`` naming the file and the fields that are missing.
    """
    module = sys.modules[cls.__module__]
    first, _, rest = (module.__doc__ or "").partition("\n")
    found = {"Idea": first.partition(": ")[2]}
    pieces = re.split(rf"^({'|'.join(FIELDS)}|Site): ", rest, flags=re.MULTILINE)
    for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
        found["Sites" if name == "Site" else name] = re.sub(r"\s+", " ", text).strip()
    if lacking := [name for name in ("Idea", *FIELDS) if not found.get(name)]:
        raise UserError(f"the docstring of {Path(str(module.__file__)).name} lacks {', '.join(lacking)}")
    return found


def typeset(text: str) -> str:
    """The plain formulas of the docstrings with signs for what is typed there: arrows, dots, powers and products."""
    for typed, sign in (("<-", "←"), ("->", "→"), (" * ", " · "), ("^2", "²"), ("^3", "³")):
        text = text.replace(typed, sign)
    return escaped(re.sub(r"(?<=[rDT)]) x (?=[rDTS(])", " × ", text))


def by_family() -> list[type[Method]]:
    """All methods, family by family, in the order of the figures."""
    order = list(FAMILIES)
    return sorted(registry.values(), key=lambda cls: (order.index(_family(cls)), cls.title))


def _family(cls: type[Method]) -> str:
    return cls.family if cls.family in FAMILIES else "other"


def _label(cls: type[Method]) -> str:
    return f"method-{cls.name.replace('_', '-')}"


def table() -> str:
    """All methods in three narrow columns: name, parameters on the reference backbone, does it merge."""
    config = config_of(REFERENCE)
    lines = ["| method | parameters | merges |", "|---|--:|---|"]
    for cls in by_family():
        count, merges = cls().count(config), "yes" if cls.mergeable else "no"
        lines.append(f"| {{ref}}`{cls.title} <{_label(cls)}>` | {count:,} | {merges} |")
    return "\n".join(lines)


def index() -> str:
    """Each method: idea, formula, where it attaches, parameters, start, merging, paper, chapter and file."""
    every, keys, config = chapters(), cite_keys(), config_of(REFERENCE)
    found, family = [], ""
    for cls in by_family():
        if _family(cls) != family:
            family = _family(cls)
            found.append(f"## {HEADINGS[family]}")
        found.append(_method(cls, every, keys, config))
    return "\n\n".join(found)


def _method(cls: type[Method], every: Mapping[str, Chapter], keys: Mapping[str, str], config: ViTConfig) -> str:
    said, default = described(cls), cls()
    number = ARXIV.search(cls.paper)
    if number is None or number[1] not in keys:
        raise UserError(f"the paper of method '{cls.name}' ({cls.paper}) is not in book/references.bib; add it there")
    section = AFFINE_SECTION if cls.name in AFFINE else FAMILY_SECTIONS[cls.family]
    count, parameters = f"{default.count(config):,}", typeset(said["Parameters"]).rstrip(".")
    if count not in parameters:
        parameters += f"; {count} for ViT-B/16 at its default"
    size = f". Its size is `{cls.size_field}`" if cls.size_field else ""
    rows = {
        "Formula": _sentence(said["Formula"]),
        "Attaches at": _sentence(said["Sites"]),
        "Parameters": f"{parameters}{size}.",
        "Starts": f"{'' if default.identity_at_start else 'not exactly '}at the pre-trained function.",
        "Merges": _sentence(said["Merges"]),
        "Paper": f"{'none, a baseline; see ' if cls.family == 'baseline' else ''}{{cite:t}}`{keys[number[1]]}`.",
        "Derived in": f"section {section_link(section, every)}. Code: `petl_core/methods/{cls.name}.py`.",
    }
    lines = [f"({_label(cls)})=", f"### {cls.title}", "", f"{said['Idea'][0].upper()}{said['Idea'][1:]}", ""]
    return "\n".join([*lines, *(f"- *{name}:* {text}" for name, text in rows.items())])


def _sentence(text: str) -> str:
    """The first sentence of a field, typeset."""
    return typeset(text.partition(". ")[0].rstrip(".") + ".")


def cite_keys() -> dict[str, str]:
    """arXiv numbers to the keys of book/references.bib."""
    from pybtex.database import parse_file  # comes with the book's tools

    entries = parse_file(Path(__file__).parents[1] / "references.bib").entries
    return {entry.fields["eprint"]: key for key, entry in entries.items() if "eprint" in entry.fields}
