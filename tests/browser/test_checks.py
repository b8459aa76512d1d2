"""The checks can fail: small pages with one fault each, and a page without any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import page_checks
import pytest
import site_files
from conftest import serve
from playwright.sync_api import BrowserContext

GOOD = '<h1 id="top">A page</h1><p>Some text, <a href="#top">up</a>.</p><img src="dot.svg" alt="a dot">'
IN_FILES = {  # what is wrong: the faulty piece, and words of the sentence about it
    "a missing file": ('<a href="gone.html">there</a>', "gone.html: no such file"),
    "a missing picture": ('<img src="gone.png" alt="gone">', "gone.png: no such file"),
    "a missing id": ('<a href="page.html#gone">there</a>', "page.html#gone: no such id"),
    "a script from outside": ('<script src="//cdn.example/x.js"></script>', "cdn.example/x.js: is not in the site"),
    "no description": ('<img src="dot.svg?1">', "dot.svg?1: alt is ''"),
    "a file name as description": ('<img src="dot.svg?1" alt="../dot.svg">', "alt is '../dot.svg'"),
    "an id twice": ('<p id="top">again</p>', "'top' is there 2 times"),
}
IN_BROWSER = {
    "a script from outside": ('<script src="https://cdn.example/x.js"></script>', "asked for https://cdn.example/x.js"),
    "a request from a script": ('<script>fetch("http://10.0.0.1/x").catch(() => 0)</script>', "asked for http://10"),
    "an error message": ('<script>console.error("oh no")</script>', "console: oh no"),
    "an exception": ("<script>oh.no</script>", "error in a script: oh is not defined"),
    "a failed request": ('<img src="gone.png" alt="gone">', "gone.png: 404"),
    "a wide box": ('<div style="width: 500px">wide</div>', "360 px: the page is 5"),
    "text that is cut": (
        '<div style="overflow: hidden"><p style="width: 90em; margin: 0">' + "long " * 60 + "</p></div>",
        "360 px: from",
    ),
    "low contrast": ('<p style="color: #999">pale</p>', "1440 px, light: color-contrast (serious): p:nth-child(4)"),
    "low contrast when dark": (
        '<style>[data-theme="dark"] p { color: #999 }</style>',
        "1440 px, dark: color-contrast",
    ),
    "a box that no key can scroll": (
        '<div style="overflow: auto; width: 300px"><pre>a<b style="margin: 600px">b</b></pre></div>',
        "scrollable-region-focusable",
    ),
    "a formula that was not read": (r"<p>so $$\Delta W$$ is</p>", 'markup in the text: main > p ("so $$'),
    "Markdown that was not read": ("<p>a <b>bold</b> **word**</p>", "markup in the text: main > p"),
    "a field without a name": ('<input type="text">', "1440 px: label (critical): input"),
}


def write(folder: Path, body: str) -> None:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>A page</title>'
    head += '<link rel="icon" href="dot.svg">'
    page = f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><main>{GOOD}{body}</main></body></html>'
    (folder / "page.html").write_text(page, encoding="utf-8")
    picture = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="9"/></svg>'
    (folder / "dot.svg").write_text(picture, encoding="utf-8")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    yield from serve(tmp_path)


def in_browser(context: BrowserContext, address: str) -> list[str]:
    stopped = page_checks.cut_network(context, address)
    return page_checks.check(context, address + "page.html") + stopped


@pytest.mark.parametrize("case", IN_FILES)
def test_a_fault_in_the_files_is_found(case: str, tmp_path: Path) -> None:
    body, expected = IN_FILES[case]
    write(tmp_path, body)
    (fault,) = site_files.faults(tmp_path, "page.html")
    assert expected in fault


@pytest.mark.parametrize("case", IN_BROWSER)
def test_a_fault_in_the_browser_is_found(case: str, tmp_path: Path, context: BrowserContext, served: str) -> None:
    body, expected = IN_BROWSER[case]
    write(tmp_path, body)
    faults = in_browser(context, served)
    assert any(expected in fault for fault in faults), faults


def test_a_good_page_has_no_fault(tmp_path: Path, context: BrowserContext, served: str) -> None:
    scrolls = (
        '<div style="overflow: auto; width: 300px" tabindex="0"><p style="width: 900px">wide, but in a box</p></div>'
    )
    write(tmp_path, scrolls)
    assert site_files.faults(tmp_path, "page.html") == []
    assert in_browser(context, served) == []
