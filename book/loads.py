"""What a browser loads by itself to show a page of a built site: from the site, or from another host.

A reader may open the book without a network, and a page that asks a third party for a script tells that party who
reads it. Links that a reader may follow are not looked at.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest"}
LOADED = {"src", "poster", "data"}  # attributes whose address a browser loads, whatever the element
IN_CSS = re.compile(r"url\(\s*([^)\"'\s]+)|(?:url\(|@import)\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
# In a script any text may be an address; these are: one of a file that scripts load, or of a host that serves them.
IN_SCRIPT = re.compile(
    r"[\"'`]((?:https?:)?//[\w.-]+\.\w+/[^\"'`\s]*?\.(?:m?js|css|json|wasm|woff2?|ttf)(?:\?[^\"'`\s]*)?|"
    r"(?:https?:)?//(?:[\w-]+\.)*(?:jsdelivr\.net|unpkg\.com|cdnjs\.cloudflare\.com|googleapis\.com|gstatic\.com)"
    r"[^\"'`\s]*)[\"'`]"
)


def outside_requests(site: Path) -> list[str]:
    """What pages of ``site`` would load by themselves from other hosts, in words: the file and the address."""
    readers = {".html": in_html, ".svg": in_html, ".css": in_css, ".js": in_script, ".mjs": in_script}
    found = []
    for path in sorted(path for path in site.rglob("*") if path.suffix in readers and path.is_file()):
        addresses = readers[path.suffix](path.read_text(encoding="utf-8"))
        outside = dict.fromkeys(address for address in addresses if is_outside(address))
        name = path.relative_to(site).as_posix()
        found += [f"{name} loads {address}: the book must load from itself alone" for address in outside]
    return found


def is_outside(address: str) -> bool:
    """Is this on another host? ``data:`` and relative addresses are not."""
    return bool(re.match(r"\s*(?:(?:https?|wss?|ftp):)?//", address, re.IGNORECASE))


def files(page: Path) -> set[Path]:
    """The files of the site that a browser loads to show ``page``, itself included."""
    found, waiting = set(), [page.resolve()]
    while waiting:
        path = waiting.pop()
        found.add(path)
        reader = {".html": in_html, ".css": in_css}.get(path.suffix)
        for address in reader(path.read_text(encoding="utf-8")) if reader else []:
            target = (path.parent / unquote(re.split(r"[?#]", address)[0])).resolve()
            if ":" not in address and target.is_file() and target not in found:
                waiting.append(target)
    return found


def in_css(text: str) -> list[str]:
    """The addresses that a style sheet loads."""
    return [next(filter(None, match.groups()), "") for match in IN_CSS.finditer(text)]


def in_script(text: str) -> list[str]:
    """The addresses on other hosts that a script may load."""
    return [match[1] for match in IN_SCRIPT.finditer(text)]


def in_html(text: str) -> list[str]:
    """The addresses that a page (or a drawing) loads, its own styles and scripts included."""
    page = _Page()
    page.feed(text)
    page.close()
    return [address for address in page.addresses if address]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inside = ""  # "script" or "style", while in one

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.inside = tag if tag in ("script", "style") else ""
        self.addresses += [values[name] for name in sorted(LOADED & values.keys())]
        self.addresses += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        if tag in ("use", "image") or (tag == "link" and LOADED_LINKS & set(values.get("rel", "").lower().split())):
            self.addresses += [values.get("href", ""), values.get("xlink:href", "")]
        self.addresses += in_css(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.addresses += in_css(data)
        elif self.inside == "script":
            self.addresses += in_script(data)
