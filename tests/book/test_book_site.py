"""A built site: what its pages load, its icons and formulas, its limits, the page for print; on sites made here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from book import build as book
from book import checks
from book import paper as book_print
from book import site as book_site
from petl_core.utils import UserError

INDEX = '<meta http-equiv="Refresh" content="0; url=intro.html" />'


def site_of(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"index.html": INDEX, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "text", "address"),
    [
        ("a.html", '<script async src="https://cdn.x.org/m.js"></script>', "https://cdn.x.org/m.js"),
        ("a.html", '<link rel="stylesheet" href="//x.org/s.css">', "//x.org/s.css"),
        ("a.html", '<link rel="preconnect" href="https://fonts.x.org">', "https://fonts.x.org"),
        ("a.html", '<img srcset="a.png 1x, https://x.org/b.png 2x">', "https://x.org/b.png"),
        ("a.html", '<iframe src="HTTPS://x.org/frame"></iframe>', "HTTPS://x.org/frame"),
        ("a.html", "<p style=\"background: url('https://x.org/b.png')\">", "https://x.org/b.png"),
        ("a.html", '<style>@import "https://x.org/f.css";</style>', "https://x.org/f.css"),
        ("a.html", '<script>const U = "https://unpkg.com/thebe@0.8.2";</script>', "https://unpkg.com/thebe@0.8.2"),
        ("b/a.css", "@font-face{src:url( //x.org/f.woff2 )}", "//x.org/f.woff2"),
        ("b/a.css", "@import url('https://x.org/f.css');", "https://x.org/f.css"),
        ("a.js", "load('https://x.org/lib/a.min.js?v=1')", "https://x.org/lib/a.min.js?v=1"),
        ("a.svg", '<svg><image xlink:href="http://x.org/a.png"/></svg>', "http://x.org/a.png"),
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found_and_named(
    name: str, text: str, address: str, tmp_path: Path
) -> None:
    (found,) = checks.Site(site_of(tmp_path, {name: text})).outside_requests()
    assert found.startswith(f"{name} loads {address}: ")


def test_links_and_the_sites_own_files_are_no_requests(tmp_path: Path) -> None:
    page = """
    <link rel="canonical" href="https://x.org/a.html"><link rel="stylesheet" href="_static/a.css?v=1">
    <a href="https://x.org/a.js">there</a> <img src="data:image/png;base64,AA//"> <script src="../b.js"></script>
    <svg xmlns="http://www.w3.org/2000/svg"></svg> <script>// see https://x.org/a.js
    const SPACE = "http://www.w3.org/1999/xhtml";</script>"""
    css = "a{background:url(\"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>\")} @charset 'UTF-8';"
    assert checks.Site(site_of(tmp_path, {"a.html": page, "_static/a.css": css})).outside_requests() == []


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A page with a style sheet that loads a font, a script and a picture; and one file that nobody loads."""
    page = (
        '<link rel="stylesheet" href="_static/a.css?v=1"><script src="_static/a.js"></script><img src="_images/a.png">'
    )
    font = "@font-face{src:url(fonts/f.woff)} b{background:url(none.png)}"
    files = {"intro.html": page, "_static/a.css": font, "_static/a.js": "x" * 100}
    files |= {"_static/fonts/f.woff": "x" * 1000, "_images/a.png": "x" * 10_000, "_static/unused.png": "x" * 100_000}
    return site_of(tmp_path, files)


def test_what_a_page_loads(site: Path) -> None:
    checked = checks.Site(site)
    assert checked.first == site.resolve() / "intro.html"
    names = {path.relative_to(site.resolve()).as_posix() for path in checked.files(checked.first)}
    assert names == {"intro.html", "_static/a.css", "_static/a.js", "_static/fonts/f.woff", "_images/a.png"}
    assert {path.name for path in checked.own_files(checked.first)} == {"intro.html", "a.png"}


@pytest.mark.parametrize(
    ("limit", "megabytes", "words"),
    [
        ("SITE_LIMIT", 0.1, "the site has 0.11 MB, more than 0.1; largest: _static/unused.png (0.10)"),
        ("FIRST_LIMIT", 0.011, "intro.html, the first page, loads 0.01 MB, more than 0.011; largest: _images/a.png"),
        ("PAGE_LIMIT", 0.0101, "intro.html and its pictures have 0.01 MB, more than 0.0101; largest: _images/a.png"),
    ],
)
def test_limits(limit: str, megabytes: float, words: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.Site(site).too_large() == []
    monkeypatch.setattr(checks, limit, megabytes)
    (fault,) = checks.Site(site).too_large()
    assert words in fault


def test_of_the_icons_the_fonts_in_use_remain_and_the_script_goes(tmp_path: Path) -> None:
    fonts = [f"_static/webfonts/fa-{name}-400.{kind}" for name in ("brands", "solid") for kind in ("woff2", "ttf")]
    rule = (
        '@font-face{src:url(../vendor/fontawesome/webfonts/fa-solid-900.woff2) format("woff2"),'
        'url(../vendor/fontawesome/webfonts/fa-solid-900.ttf) format("truetype")}'
    )
    page = '<script defer src="_static/scripts/fontawesome.js?digest=5"></script>\n<i class="fa-solid fa-bars"></i>'
    files = {"a.html": page, "_static/a.css": rule, "_static/scripts/fontawesome.js": "", **dict.fromkeys(fonts, "")}
    book_site.finish(site_of(tmp_path, files), [])
    assert "<script" not in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert ".ttf" not in (tmp_path / "_static" / "a.css").read_text(encoding="utf-8")
    left = {path.name for path in tmp_path.rglob("*fa-*")} | {path.name for path in tmp_path.rglob("fontawesome*")}
    assert left == {"fa-solid-400.woff2"}


def test_mathjax_comes_with_the_site_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book_site.add_mathjax(tmp_path / "mathjax")
    assert (tmp_path / "mathjax" / "tex-chtml.js").stat().st_size > 1e6
    assert len(list(tmp_path.rglob("*.woff"))) > 20 and (tmp_path / "mathjax/input/tex/extensions/cancel.js").is_file()
    assert checks.Site(tmp_path).outside_requests() == []
    monkeypatch.setattr(book_site, "MATHJAX", "no-such-package")
    with pytest.raises(UserError, match="no-such-package: make install"):
        book_site.add_mathjax(tmp_path / "mathjax")


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("<p>so \\Delta W = 0 holds</p>", r"\Delta W = 0 holds"),
        ("<p>by $ \\frac{1}{2}</p>", r"$ \frac"),
        ('<li>one<li>two <span class="math">x</span></ul> \\alpha', r"\alpha"),
        ("<pre>\\alpha</pre> <code>\\n</code> $5 <script>'\\beta'</script>", ""),
        ('<div class="math notranslate"><b>\\[</b> \\frac</div><img alt="a">', ""),
    ],
)
def test_a_formula_that_was_not_set_is_found(page: str, shown: str, tmp_path: Path) -> None:
    found = checks.Site(site_of(tmp_path, {"a.html": page})).unset_formulas()
    assert len(found) == bool(shown)
    assert not shown or found[0].startswith("a.html shows the source of a formula, " + repr(shown)[:-1])


def test_mathjax_is_loaded_where_there_are_formulas(tmp_path: Path) -> None:
    head = '<script>window.MathJax = {"a": 1}</script>\n<script defer src="_static/mathjax/tex-chtml.js"></script>'
    files = {"a.html": f"{head}<p>none</p>", "b.html": f'{head}<span class="math notranslate">x</span>'}
    book_site.finish(site_of(tmp_path, files), [])
    assert "MathJax" not in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == files["b.html"]


def test_the_page_for_print_is_one_file_with_everything_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = '<head></head><details class="hide"><p>solution</p></details><a href="intro.html#there">there</a>'
    monkeypatch.setattr(book_print, "find_browser", lambda: None)
    site_of(tmp_path, {"intro.html": page})
    assert book_print.print_site(tmp_path, tmp_path / "intro.html") == ["index.html"]
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not (tmp_path / "intro.html").exists()
    assert "break-before: page" in text and '<details open class="hide">' in text and 'href="#there"' in text


def test_the_browser_is_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\necho it is broken >&2; exit 3\n", encoding="utf-8")
    mine.chmod(0o755)
    monkeypatch.setenv(book_print.BROWSER, str(mine))
    assert book_print.find_browser() == str(mine)
    with pytest.raises(RuntimeError, match="made no PDF"):
        book_print.to_pdf(str(mine), tmp_path, tmp_path / "book.pdf")
    monkeypatch.delenv(book_print.BROWSER)
    monkeypatch.setattr(book_print, "NAMES", ())
    monkeypatch.setattr(book_print, "MACOS", tmp_path / "none")
    assert book_print.find_browser() is None


@pytest.mark.skipif(not book_print.find_browser(), reason="no Chromium is installed")
def test_a_pdf_is_printed(tmp_path: Path) -> None:
    site_of(tmp_path, {"index.html": "<h1>A page</h1>"})
    book_print.to_pdf(str(book_print.find_browser()), tmp_path, tmp_path / "book.pdf")
    written = (tmp_path / "book.pdf").read_bytes()
    assert written.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", written)) == 1
    assert b"/Outlines" in written


def test_faults_keep_the_site_from_appearing() -> None:
    book.require_none([])
    with pytest.raises(RuntimeError, match=r"does not build:\na\.html loads"):
        book.require_none(["a.html loads something"])
