"""How to cite the guide and the study, as BibTeX made from CITATION.cff."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from petl_core.utils import UserError


def bibtex(root: Path) -> str:
    """The guide and the study of CITATION.cff in a block of code. The guide's year is that of its licence."""
    import yaml  # comes with the book's tools

    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    year = re.search(r"Copyright \(c\) (\d{4})", (root / "LICENSE").read_text(encoding="utf-8"))
    if year is None:
        raise UserError("LICENSE names no year in 'Copyright (c) ...'; the citation of this guide needs it")
    entries = [_entry("petlguide", "software", {**citation, "year": year[1]})]
    for reference in citation["references"]:
        first = str(reference["authors"][0]["family-names"]).lower()
        entries.append(_entry(f"{first}{reference['year']}", "inproceedings", reference))
    return "\n".join(["```bibtex", "\n\n".join(entries), "```"])


def _entry(key: str, kind: str, said: Mapping[str, Any]) -> str:
    authors = [
        f"{{{person['name']}}}" if "name" in person else f"{person['family-names']}, {person['given-names']}"
        for person in said["authors"]
    ]
    fields = {
        "title": f"{{{said['title']}}}",
        "author": " and ".join(authors),
        "booktitle": said.get("conference", {}).get("name"),
        "year": said["year"],
        "version": said.get("version"),
        "license": said.get("license"),
        "doi": said.get("doi"),
        "url": said.get("url"),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
