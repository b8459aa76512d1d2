"""What a built site would fetch from other hosts, and the parts that it carries itself so that it fetches nothing.

A reader may open the book without a network, and a page that asks a third party for a script tells that party who
reads it. ``outside_requests`` looks at what a browser would load by itself; links that a reader may follow are free.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from petl_core.errors import UserError

LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest"}
LOADED = {"src", "srcset", "poster", "data"}  # attributes whose address a browser loads, whatever the element
IN_CSS = re.compile(r"url\(\s*[\"']?((?:https?:)?//[^\"')\s]+)|@import\s+[\"']((?:https?:)?//[^\"']+)", re.IGNORECASE)
# In a script any text may be an address; these are: one of a file that scripts load, or of a host that serves them.
IN_SCRIPT = re.compile(
    r"[\"'`]((?:https?:)?//[\w.-]+\.\w+/[^\"'`\s]*?\.(?:m?js|css|json|wasm|woff2?|ttf)(?:\?[^\"'`\s]*)?|"
    r"(?:https?:)?//(?:[\w-]+\.)*(?:jsdelivr\.net|unpkg\.com|cdnjs\.cloudflare\.com|googleapis\.com|gstatic\.com)"
    r"[^\"'`\s]*)[\"'`]"
)
MATHJAX = "sphinx-mathjax-offline"  # the distribution, and its folder in site-packages
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions/*.js", "output/chtml/fonts/woff-v2/*.woff")


def outside_requests(site: Path) -> list[str]:
    """Every address on another host that a page of ``site`` would load by itself, as "file: address"."""
    found = []
    for path in sorted(site.rglob("*")):
        reader = {".html": _in_html, ".css": _in_css, ".js": _in_script, ".mjs": _in_script, ".svg": _in_html}.get(
            path.suffix
        )
        if reader and path.is_file():
            name, text = path.relative_to(site).as_posix(), path.read_text(encoding="utf-8")
            found += [f"{name}: {address}" for address in dict.fromkeys(reader(text))]
    return found


def is_outside(address: str) -> bool:
    """Is this on another host? ``data:`` and relative addresses are not."""
    return bool(re.match(r"\s*(?:(?:https?|wss?|ftp):)?//", address, re.IGNORECASE))


def _in_css(text: str) -> Iterator[str]:
    for match in IN_CSS.finditer(text):
        yield match[1] or match[2]


def _in_script(text: str) -> Iterator[str]:
    for match in IN_SCRIPT.finditer(text):
        yield match[1]


def _in_html(text: str) -> Iterable[str]:
    page = _Page()
    page.feed(text)
    page.close()
    return page.outside


class _Page(HTMLParser):
    """Collects the addresses on other hosts that an HTML (or SVG) page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.inside = ""  # "script" or "style", while in one

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.inside = tag if tag in ("script", "style") else ""
        addresses = [values[name] for name in LOADED & values.keys() if name != "srcset"]
        addresses += [part.strip() for part in values.get("srcset", "").split(",")]
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").lower().split()):
            addresses.append(values.get("href", ""))
        if tag in ("use", "image"):
            addresses += [values.get("href", ""), values.get("xlink:href", "")]
        self.outside += [address for address in addresses if is_outside(address)]
        self.outside += _in_css(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.outside += _in_css(data)
        elif self.inside == "script":
            self.outside += _in_script(data)


def add_mathjax(folder: Path) -> None:
    """Copy MathJax (one script, the extensions it may load, its fonts) into ``folder``."""
    try:
        source = Path(str(distribution(MATHJAX).locate_file(f"{MATHJAX}/static/mathjax")))
    except PackageNotFoundError as error:
        raise UserError(f"the book's formulas need the package {MATHJAX}: make install") from error
    for pattern in MATHJAX_PARTS:
        parts = sorted(source.glob(pattern))
        if not parts:
            raise UserError(f"{source} has no {pattern}: install the locked version of {MATHJAX} (make install)")
        for path in parts:
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    script = folder / MATHJAX_PARTS[0]  # it would fetch what only a spoken formula needs; those parts are off
    script.write_text(script.read_text(encoding="utf-8").replace("https://cdn.jsdelivr.net/", "./"), encoding="utf-8")
