"""From what Jupyter Book wrote to the site that is shown: complete without a network, small, and checked.

``finish`` adds MathJax, drops what no page uses, and puts the notebooks that can be downloaded in place. ``faults``
says what is wrong with a site; a build with faults does not appear.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from petl_core.book_icons import keep_used
from petl_core.book_offline import add_mathjax, outside_requests

MATHJAX_TAGS = re.compile(r"\s*<script>window\.MathJax = .*?</script>|\s*<script[^>]*/mathjax/[^>]*></script>")
FORMULA = re.compile(r'class="(?:[\w-]+ )*math[ "]')
UNUSED = ("_static/**/*.map", "_static/locales", ".buildinfo", "_static/*webpack-macros.html", "_static/**/*.html")


def finish(site: Path, notebooks: list[Path]) -> None:
    """Make a built site complete and small; ``notebooks`` are the files that a reader downloads from the pages."""
    pages = sorted(site.rglob("*.html"))
    for path in pages:
        text = path.read_text(encoding="utf-8")
        if not FORMULA.search(text):
            path.write_text(MATHJAX_TAGS.sub("", text), encoding="utf-8")
    add_mathjax(site / "_static" / "mathjax")
    for pattern in UNUSED:
        for path in sorted(site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    keep_used(site / "_static", [path for path in pages if path.exists()])
    for path in notebooks:
        shutil.copyfile(path, site / "_sources" / "notebooks" / path.name)


def faults(site: Path) -> list[str]:
    """What is wrong with a finished site; an empty list if nothing is."""
    return [f"{found} (the book must load from itself alone)" for found in outside_requests(site)]
