"""From what Jupyter Book wrote to the site that is shown: complete without a network, and without what no page needs.

``finish`` adds MathJax and Vega, drops what no page uses, and puts the notebooks that can be downloaded in place. What
is wrong with a site afterwards, ``book.checks`` says.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from petl_core.utils import UserError
from petl_guide.interactive import offline

MATHJAX = "sphinx-mathjax-offline"  # the distribution, and its folder in site-packages
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions/*.js", "output/chtml/fonts/woff-v2/*.woff")
MATHJAX_TAGS = re.compile(r"\s*<script>window\.MathJax = .*?</script>|\s*<script[^>]*/mathjax/[^>]*></script>")
FORMULA = re.compile(r'class="(?:[\w-]+ )*math[ "]')
# The theme brings its icons three times: the fonts that pages use stay, a script of 1.5 MB and the old format go.
ICON_SCRIPT = re.compile(r"\s*<script[^>]*/fontawesome\.js[^>]*></script>")
OLD_FONTS = re.compile(r",url\([^)]*/fontawesome/[^)]*\.ttf\) format\(\"truetype\"\)")
UNUSED = (
    ".buildinfo",
    "_static/locales",
    *(f"_static/**/{names}" for names in ("*.map", "*.html", "fontawesome.js*", "webfonts/*.ttf")),
)
ICON_FONTS = {"brands": ("fa-brands", 'class="github ', 'class="gitlab '), "regular": ("fa-regular",)}  # what uses them
LIST_ITEM = ('role="doc-biblioentry"', 'role="listitem"')  # what docutils writes is withdrawn: no entry of a list
FIGURE = 'class="petl-data"'  # on pages with an interactive figure


def finish(site: Path, notebooks: Iterable[Path]) -> None:
    """Make a built site complete and small; ``notebooks`` are the files that a reader downloads from the pages."""
    for pattern in UNUSED:
        for path in sorted(site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    for path, text in pages.items():
        text = ICON_SCRIPT.sub("", text).replace(*LIST_ITEM)
        path.write_text(text if FORMULA.search(text) else MATHJAX_TAGS.sub("", text), encoding="utf-8")
    for font, marks in ICON_FONTS.items():
        if not any(mark in text for text in pages.values() for mark in marks):
            for path in site.glob(f"_static/**/webfonts/fa-{font}-*"):
                path.unlink()
    for path in sorted(site.rglob("*.css")):
        path.write_text(OLD_FONTS.sub("", path.read_text(encoding="utf-8")), encoding="utf-8")
    add_mathjax(site / "_static" / "mathjax")
    if any(FIGURE in text for text in pages.values()):
        (site / "_static" / "vega.js").write_text(offline.library(), encoding="utf-8")  # figures.js asks for it
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
