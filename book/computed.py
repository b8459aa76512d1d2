"""A Sphinx extension: what the pages say of records and sources is computed when the book is built.

    ```{computed} tasks
    ```

on a page becomes what ``PARTS["tasks"]`` returns, as Markdown; all else on a page is written by hand. Links to sections
of chapters (``[4.5](...)``) are brought to where the section is now. The records are those of the profile that
``computed_profile`` in ``_config.yml`` names: the shipped ones, or those in the folder ``computed_runs``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from book.pages import answer, claims, data, methods
from petl_core.utils import EMBEDDED, UserError
from petl_guide.chapters import chapter_map, chapters, mended
from petl_guide.facts import Facts
from petl_guide.results import SHIPPED, of_folder, open_results

PARTS: Mapping[str, Callable[[Facts], str]] = {
    "which-method": answer.directive,
    "recommendations": answer.words,
    "made-from": data.made_from,
    "verdict-counts": claims.standing,
    "chapter-map": lambda _: chapter_map(chapters()),
    "verdicts": claims.overview,
    "claims": claims.index,
    "method-table": lambda _: methods.table(),
    "methods": lambda _: methods.index(),
    "tasks": lambda _: data.tasks(),
    "world": lambda _: data.rendered_world(),
    "backbones": lambda _: data.embedded_backbones(),
    "timm": lambda _: data.timm_backbones(),
    "published": lambda _: data.published_numbers(),
    "records": data.records,
    "photographs": lambda _: data.records_on_photographs(),
    "costs": lambda _: data.measured_costs(),
}
PICTURES: Mapping[str, Callable[[Facts], bytes]] = {  # drawn where a page shows them
    answer.PICTURE: lambda facts: answer.picture(facts).png,
    "images/examples.png": lambda _: (EMBEDDED / "examples.png").read_bytes(),
    "images/world.png": lambda _: (EMBEDDED / "world.png").read_bytes(),
}
DIRECTIVE = re.compile(r"^```\{computed\} *(\S*)\n```$", re.MULTILINE)


@functools.lru_cache(maxsize=1)
def facts_of(profile: str, runs: str = "") -> Facts:
    """The facts of a profile's records, the shipped ones or those in the folder ``runs``; they take seconds."""
    return Facts(of_folder(profile, runs) if runs else open_results(profile))


def filled(text: str, facts: Facts, folder: Path) -> str:
    """The page with its parts computed; pictures that it shows are written into ``folder``.

    ``UserError`` for a part that nothing computes, or a link to a section that no chapter has.
    """

    def compute(found: re.Match[str]) -> str:
        if found[1] not in PARTS:
            raise UserError(f"nothing computes '{found[1]}'; the parts are: {', '.join(PARTS)}")
        try:
            return PARTS[found[1]](facts)
        except UserError as error:
            if facts.results.shipped:
                raise
            return f"*Not computed: {error}.*"

    text = DIRECTIVE.sub(compute, text)
    for name, draw in PICTURES.items():
        if f"{{figure}} {name}\n" in text:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(draw(facts))
    return mended(text, chapters())


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Called by Sphinx with each page that it has read; chapters come as their notebooks are."""
    if not page.startswith("notebooks/"):
        try:
            facts = facts_of(app.config.computed_profile, app.config.computed_runs)
            source[0] = filled(source[0], facts, Path(app.srcdir))
        except UserError as error:
            raise ExtensionError(f"page {page}: {error}") from error


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx when it loads the extension."""
    app.add_config_value("computed_profile", SHIPPED, "env")
    app.add_config_value("computed_runs", "", "env")
    app.connect("source-read", fill)
    return {"parallel_read_safe": False}
