"""Formulas that did not become formulas: TeX that a reader would see as text, such as the half of a misread ``$$``."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

TEX = re.compile(r"(?:\$\s*)?\\[a-zA-Z]{2,}.{0,40}")
NOT_PROSE = {"pre", "code", "script", "style", "textarea", "title"}
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def unset_formulas(site: Path) -> list[str]:
    """The pages of ``site`` with TeX in their prose, in words."""
    found = []
    for path in sorted(site.rglob("*.html")):
        page = _Prose()
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
        if match := TEX.search("".join(page.text)):
            name = path.relative_to(site).as_posix()
            found.append(f"{name} shows the source of a formula, {match[0]!r}: close its $ signs or leave a line free")
    return found


class _Prose(HTMLParser):
    """Collects the text outside code and formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[tuple[str, bool]] = []  # the elements that are open: is their text prose?

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in EMPTY:
            classes = (dict(attributes).get("class") or "").split()
            self.open.append((tag, self.prose() and tag not in NOT_PROSE and "math" not in classes))

    def handle_endtag(self, tag: str) -> None:
        while tag in (name for name, _ in self.open) and self.open.pop()[0] != tag:
            pass  # inner elements that were left open end with it

    def handle_data(self, data: str) -> None:
        if self.prose():
            self.text.append(data)

    def prose(self) -> bool:
        """Is what comes now text that a reader reads?"""
        return self.open[-1][1] if self.open else True
