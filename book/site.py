"""From what Jupyter Book wrote to the site that is shown: complete without a network, small, and checked.

``finish`` adds MathJax and Vega, drops what no page uses, and puts the notebooks that can be downloaded in place.
``faults`` says what is wrong with a site; a build with faults does not appear.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from book.formulas import unset_formulas
from book.icons import keep_used
from book.loads import files, outside_requests
from petl_core.utils import UserError
from petl_guide.interactive import offline

MEGABYTE = 1e6
SITE_LIMIT, FIRST_LIMIT, PAGE_LIMIT = 30.0, 1.0, 3.0  # megabytes
MATHJAX = "sphinx-mathjax-offline"  # the distribution, and its folder in site-packages
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions/*.js", "output/chtml/fonts/woff-v2/*.woff")
MATHJAX_TAGS = re.compile(r"\s*<script>window\.MathJax = .*?</script>|\s*<script[^>]*/mathjax/[^>]*></script>")
FORMULA = re.compile(r'class="(?:[\w-]+ )*math[ "]')
UNUSED = (".buildinfo", "_static/**/*.map", "_static/**/*.html", "_static/locales")
LIST_ITEM = ('role="doc-biblioentry"', 'role="listitem"')  # what docutils writes is withdrawn: no entry of a list
FIGURE = 'class="petl-data"'  # on pages with an interactive figure
FIRST = re.compile(r'http-equiv="refresh"[^>]*url=([^">]+)', re.IGNORECASE)


def finish(site: Path, notebooks: Iterable[Path]) -> None:
    """Make a built site complete and small; ``notebooks`` are the files that a reader downloads from the pages."""
    for pattern in UNUSED:
        for path in sorted(site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    pages = sorted(site.rglob("*.html"))
    for path in pages:
        text = path.read_text(encoding="utf-8").replace(*LIST_ITEM)
        path.write_text(text if FORMULA.search(text) else MATHJAX_TAGS.sub("", text), encoding="utf-8")
    add_mathjax(site / "_static" / "mathjax")
    if any(FIGURE in path.read_text(encoding="utf-8") for path in pages):
        (site / "_static" / "vega.js").write_text(offline.library(), encoding="utf-8")  # figures.js asks for it
    keep_used(site / "_static", pages)
    for path in notebooks:
        target = site / "_sources" / "notebooks" / path.name
        if target.exists():  # as it was committed, with its widgets, not as it was staged
            shutil.copyfile(path, target)


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


def faults(site: Path) -> list[str]:
    """What is wrong with a finished site; an empty list if nothing is."""
    found = outside_requests(site) + unset_formulas(site)
    if (total := _megabytes(_all_files(site))) > SITE_LIMIT:
        found.append(f"the site has {total:.1f} MB, more than {SITE_LIMIT:g}; {_largest(site, _all_files(site))}")
    if (first := first_page(site)) and (weight := _megabytes(files(first))) > FIRST_LIMIT:
        found.append(
            f"{first.relative_to(site)}, the first page, loads {weight:.2f} MB, more than {FIRST_LIMIT:g}; "
            f"{_largest(site, files(first))}"
        )
    for page in sorted(site.rglob("*.html")):
        if (weight := _megabytes(own_files(site, page))) > PAGE_LIMIT:
            found.append(
                f"{page.relative_to(site)} and its pictures have {weight:.2f} MB, more than {PAGE_LIMIT:g}; "
                f"{_largest(site, own_files(site, page))}"
            )
    return found


def first_page(site: Path) -> Path | None:
    """The page that ``index.html`` leads to."""
    target = FIRST.search((site / "index.html").read_text(encoding="utf-8"))
    return site / target[1] if target else None


def own_files(site: Path, page: Path) -> set[Path]:
    """What a page loads that it does not share with the others: itself and its pictures."""
    return {path for path in files(page) if not path.is_relative_to((site / "_static").resolve())}


def sizes(site: Path) -> str:
    """The size of the site, of its first page and of its largest page, in words."""
    pages = {page: _megabytes(own_files(site, page)) for page in site.rglob("*.html")}
    largest = max(sorted(pages), key=pages.__getitem__)
    words = [f"{_megabytes(_all_files(site)):.1f} MB"]
    if first := first_page(site):
        words.append(f"the first page loads {_megabytes(files(first)):.2f} MB")
    return ", ".join([*words, f"the largest page has {pages[largest]:.2f} MB ({largest.stem})"])


def _all_files(site: Path) -> list[Path]:
    return [path for path in site.rglob("*") if path.is_file()]


def _megabytes(paths: Iterable[Path]) -> float:
    return sum(path.stat().st_size for path in paths) / MEGABYTE


def _largest(site: Path, paths: Iterable[Path]) -> str:
    ranked = sorted(paths, key=lambda path: path.stat().st_size, reverse=True)[:3]
    named = (f"{path.resolve().relative_to(site.resolve())} ({_megabytes([path]):.2f})" for path in ranked)
    return f"largest: {', '.join(named)}"
