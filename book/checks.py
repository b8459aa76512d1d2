"""What is wrong with a built site: pages that load from another host, formulas that were not set, too many megabytes.

A reader may open the book without a network, and a page that asks a third party for a script tells that party who
reads it. Links that a reader may follow are not looked at. Each file is read once, when the ``Site`` is made.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning  # comes with the book's tools

MEGABYTE = 1e6
SITE_LIMIT, FIRST_LIMIT, PAGE_LIMIT = 30.0, 1.3, 3.0  # megabytes
FIRST = re.compile(r'http-equiv="refresh"[^>]*url=([^">]+)', re.IGNORECASE)
OUTSIDE = re.compile(r"\s*(?:(?:https?|wss?|ftp):)?//", re.IGNORECASE)  # ``data:`` and relative addresses are inside
LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest"}
LOADED = ("src", "poster", "data")  # attributes whose address a browser loads, whatever the element
IN_CSS = re.compile(r"url\(\s*([^)\"'\s]+)|(?:url\(|@import)\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
# In a script any text may be an address; these are: one of a file that scripts load, or of a host that serves them.
IN_SCRIPT = re.compile(
    r"[\"'`]((?:https?:)?//[\w.-]+\.\w+/[^\"'`\s]*?\.(?:m?js|css|json|wasm|woff2?|ttf)(?:\?[^\"'`\s]*)?|"
    r"(?:https?:)?//(?:[\w-]+\.)*(?:jsdelivr\.net|unpkg\.com|cdnjs\.cloudflare\.com|googleapis\.com|gstatic\.com)"
    r"[^\"'`\s]*)[\"'`]"
)
TEX = re.compile(r"(?:\$\s*)?\\[a-zA-Z]{2,}.{0,40}")
NOT_PROSE = "pre, code, script, style, textarea, title, .math"


@dataclass(frozen=True)
class Content:
    """What a browser loads by itself to show a file, and the text that a reader reads in it."""

    loads: list[str]
    prose: str = ""


def read(path: Path) -> Content:
    """The content of a page, a drawing, a style sheet or a script; of other files, nothing."""
    if path.suffix in (".html", ".svg"):
        return read_html(path.read_text(encoding="utf-8"))
    if path.suffix == ".css":
        return Content(in_css(path.read_text(encoding="utf-8")))
    if path.suffix in (".js", ".mjs"):
        return Content(IN_SCRIPT.findall(path.read_text(encoding="utf-8")))
    return Content([])


def read_html(text: str) -> Content:
    """The content of a page, its own styles and scripts included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)  # drawings are read like pages
        soup = BeautifulSoup(text, "html.parser", multi_valued_attributes=None)
    loads: list[str] = []
    for element in soup.find_all():
        values = {name: str(value) for name, value in element.attrs.items()}
        loads += [values[name] for name in LOADED if name in values]
        loads += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        loaded_link = element.name == "link" and LOADED_LINKS & set(values.get("rel", "").lower().split())
        if loaded_link or element.name in ("use", "image"):
            loads += [values.get("href", ""), values.get("xlink:href", "")]
        loads += in_css(values.get("style", ""))
        if element.name == "style":
            loads += in_css(element.get_text())
        elif element.name == "script":
            loads += IN_SCRIPT.findall(element.get_text())
    for element in soup.select(NOT_PROSE):
        element.decompose()
    return Content([address for address in loads if address], soup.get_text())


def in_css(text: str) -> list[str]:
    """The addresses that a style sheet loads."""
    return [next(filter(None, match.groups()), "") for match in IN_CSS.finditer(text)]


class Site:
    """A built site, its files read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.contents = {path: read(path) for path in sorted(self.folder.rglob("*")) if path.is_file()}
        self.pages = [path for path in self.contents if path.suffix == ".html"]

    @property
    def first(self) -> Path | None:
        """The page that ``index.html`` leads to."""
        target = FIRST.search((self.folder / "index.html").read_text(encoding="utf-8"))
        return self.folder / target[1] if target else None

    def files(self, page: Path) -> set[Path]:
        """The files of the site that a browser loads to show ``page``, itself included."""
        found, waiting = set(), [page]
        while waiting:
            path = waiting.pop()
            found.add(path)
            if path.suffix in (".html", ".css"):
                for address in self.contents[path].loads:
                    target = (path.parent / unquote(re.split(r"[?#]", address)[0])).resolve()
                    if ":" not in address and target in self.contents and target not in found:
                        waiting.append(target)
        return found

    def own_files(self, page: Path) -> set[Path]:
        """What a page loads that it does not share with the others: itself and its pictures."""
        return {path for path in self.files(page) if not path.is_relative_to(self.folder / "_static")}

    def outside_requests(self) -> list[str]:
        """What files of the site would load by themselves from other hosts, in words: the file and the address."""
        return [
            f"{self._name(path)} loads {address}: the book must load from itself alone"
            for path, content in self.contents.items()
            for address in dict.fromkeys(filter(OUTSIDE.match, content.loads))
        ]

    def unset_formulas(self) -> list[str]:
        """The pages with TeX that a reader would see as text, such as the half of a misread ``$$``, in words."""
        shown = {path: TEX.search(self.contents[path].prose) for path in self.pages}
        return [
            f"{self._name(path)} shows the source of a formula, {match[0]!r}: close its $ signs or leave a line free"
            for path, match in shown.items()
            if match
        ]

    def too_large(self) -> list[str]:
        """The limits that the site, its first page or another page breaks, in words, with the largest files."""
        found = self._over(SITE_LIMIT, "the site has", self.contents)
        if self.first:
            found += self._over(FIRST_LIMIT, f"{self._name(self.first)}, the first page, loads", self.files(self.first))
        for page in self.pages:
            found += self._over(PAGE_LIMIT, f"{self._name(page)} and its pictures have", self.own_files(page))
        return found

    def _over(self, limit: float, what: str, paths: Iterable[Path]) -> list[str]:
        weight = megabytes(paths)
        if weight <= limit:
            return []
        ranked = sorted(paths, key=lambda path: path.stat().st_size, reverse=True)[:3]
        named = ", ".join(f"{self._name(path)} ({megabytes([path]):.2f})" for path in ranked)
        return [f"{what} {weight:.2f} MB, more than {limit:g}; largest: {named}"]

    def sizes(self) -> str:
        """The size of the site, of its first page and of its largest page, in words."""
        pages = {page: megabytes(self.own_files(page)) for page in self.pages}
        largest = max(self.pages, key=pages.__getitem__)
        words = [f"{megabytes(self.contents):.1f} MB"]
        if self.first:
            words.append(f"the first page loads {megabytes(self.files(self.first)):.2f} MB")
        return ", ".join([*words, f"the largest page has {pages[largest]:.2f} MB ({largest.stem})"])

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def megabytes(paths: Iterable[Path]) -> float:
    """The size of these files."""
    return sum(path.stat().st_size for path in paths) / MEGABYTE
