"""The files of the built site, read without a browser: which pages there are, what they link to, load and show."""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from book import build as book
from petl_guide import notebooks

OUTSIDE = re.compile(r"(https?:)?//")
FILE_NAME = re.compile(r"\.(png|jpe?g|svg|gif|webp)$", re.IGNORECASE)
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "embed": "src", "object": "data"}
NOT_FETCHED = {"canonical", "license", "author", "next", "prev", "search", "index"}  # of <link rel=...>


@dataclass
class Page:
    """What one page names: the ids it has, where it leads, what it loads, the descriptions of its pictures."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if "id" in values:
            self.page.ids.append(values["id"])
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])
        if tag == "link" and not NOT_FETCHED & set(values.get("rel", "").split()):
            self.page.loads.append(values.get("href", ""))
        if values.get(LOADED.get(tag, "")):
            self.page.loads.append(values[LOADED[tag]])
        if tag == "img":
            self.page.pictures[values.get("src", "")] = values.get("alt", "").strip()
        if tag == "meta" and values.get("http-equiv", "").lower() == "refresh":
            self.page.links.append(values.get("content", "").partition("url=")[2])


@functools.cache
def read(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def pages(site: Path) -> list[str]:
    """The pages of a built site, as paths in it; what lies in ``_static`` and the like are no pages."""
    found = (path.relative_to(site) for path in site.rglob("*.html"))
    return sorted(path.as_posix() for path in found if not path.parts[0].startswith("_"))


def expected_pages() -> list[str]:
    """The pages that the sources promise, known before the book is built: tests are made from them."""
    texts = [path.relative_to(book.SOURCE).with_suffix(".html").as_posix() for path in book.SOURCE.rglob("*.md")]
    chapters = [f"notebooks/{path.stem}.html" for path in notebooks.sources()]
    return sorted(["genindex.html", "index.html", "search.html", *texts, *chapters])


def broken_links(site: Path, name: str) -> list[str]:
    """Links of a page, and what it loads, that lead to no file of the site or to no id in the page they name."""
    page, faults = read(site / name), []
    for target in [*page.links, *page.loads]:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        path = site / unquote(urlsplit(urljoin(name, parts.path)).path) if parts.path else site / name
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            faults.append(f"{target}: no such file")
        elif parts.fragment and path.suffix == ".html" and unquote(parts.fragment) not in read(path).ids:
            faults.append(f"{target}: no such id in {path.name}")
    return faults


def loads_from_outside(site: Path, name: str) -> list[str]:
    return [f"{target}: is not in the site" for target in read(site / name).loads if OUTSIDE.match(target)]


def pictures_without_description(site: Path, name: str) -> list[str]:
    """Pictures whose alt text is missing, empty, or only the name of a file (what Sphinx writes in its place)."""
    pictures = read(site / name).pictures
    return [f"{source}: alt is {alt!r}" for source, alt in pictures.items() if not alt or FILE_NAME.search(alt)]


def repeated_ids(site: Path, name: str) -> list[str]:
    counts = Counter(read(site / name).ids)
    return [f"the id {identifier!r} is there {count} times" for identifier, count in counts.items() if count > 1]


def faults(site: Path, name: str) -> list[str]:
    """All that is wrong with the file of one page."""
    checks = (broken_links, loads_from_outside, pictures_without_description, repeated_ids)
    return [fault for check in checks for fault in check(site, name)]
