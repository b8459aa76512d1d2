"""The computed parts of the README and of the book's pages, and their pictures, from records.

    python -m book.front            # write them
    python -m book.front --check    # are they what the shipped records say?

A part stands between two marks, ``<!-- computed: NAME: begin -->`` and ``<!-- computed: NAME: end -->``; all else on a
page is written by hand. In the book's pages, links to sections of chapters (``[4.5](...)``) are brought to where the
section is now. As committed, all is computed from the shipped records; ``book.build --runs`` lets it be computed
from others, for a book of these.
"""

from __future__ import annotations

import argparse
import functools
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from book import citation
from book.pages import answer, summary
from book.pages import claims as claim_pages
from book.pages import data as data_pages
from book.pages import methods as method_pages
from petl_core.utils import DATA, EMBEDDED, UserError, write_atomic
from petl_guide import chapters
from petl_guide.facts import Facts
from petl_guide.results import SHIPPED, Results, open_results

PROFILE = SHIPPED
ROOT = DATA.parent

Part = Callable[[Facts], str]
PAGES: Mapping[str, Mapping[str, Part]] = {  # by page, its computed parts
    "README.md": {
        "findings": summary.paragraphs,
        "chapters": lambda _: chapters.chapter_table(chapters.chapters()),
    },
    "book/intro.md": {
        "answer": answer.words,
        "made": data_pages.made_from,
        "figure": answer.directive,
        "claims": claim_pages.standing,
        "chapters": lambda _: chapters.chapter_map(chapters.chapters()),
    },
    "book/claims.md": {"overview": claim_pages.overview, "claims": claim_pages.index},
    "book/methods.md": {"table": lambda _: method_pages.table(), "methods": lambda _: method_pages.index(ROOT)},
    "book/glossary.md": {},
    "book/data.md": {
        "tasks": lambda _: data_pages.tasks(),
        "world": lambda _: data_pages.rendered_world(),
        "backbones": lambda _: data_pages.embedded_backbones(),
        "published": lambda _: data_pages.published_numbers(),
        "records": data_pages.records,
        "photographs": lambda _: data_pages.records_on_photographs(),
        "costs": lambda _: data_pages.measured_costs(),
    },
    "book/bibliography.md": {},
    "book/cite.md": {"citation": lambda _: citation.bibtex(ROOT)},
}
PICTURES: Mapping[str, Callable[[Facts], bytes]] = {
    "book/images/accuracy.png": lambda facts: summary.picture(facts).png,
    answer.PICTURE: lambda facts: answer.picture(facts).png,
    "book/images/examples.png": lambda _: (EMBEDDED / "examples.png").read_bytes(),
    "book/images/world.png": lambda _: (EMBEDDED / "world.png").read_bytes(),
}
FILES = (*PAGES, *PICTURES)


def marks(name: str) -> tuple[str, str]:
    """The marks before and after the part called ``name``."""
    return f"<!-- computed: {name}: begin -->", f"<!-- computed: {name}: end -->"


def page(path: Path, parts: Mapping[str, Part], facts: Facts) -> str:
    """The page as it should be. ``UserError`` if the marks of a part are not there once each, or belong to no part."""
    text = path.read_text(encoding="utf-8")
    for name in set(re.findall(r"<!-- computed: (.+?): (?:begin|end) -->", text)) - set(parts):
        raise UserError(f"{path} has marks of a part '{name}'; its parts are: {', '.join(parts) or 'none'}")
    for name, part in parts.items():
        begin, end = marks(name)
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise UserError(f"{path} needs the marks '{begin}' and '{end}', once each, around what is computed")
        before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
        text = f"{before}\n{part(facts)}\n{after}"
    return text if path.name == "README.md" else chapters.mended(text, chapters.chapters())


@functools.lru_cache(maxsize=1)
def facts_of(results: Results) -> Facts:
    """The facts of these records, which take seconds to compute: kept for the next call with the same ``results``."""
    return Facts(results)


def problems(root: Path, results: Results) -> list[str]:
    """What on the pages is not what the records and the sources say; an empty list if nothing is."""
    facts = facts_of(results)
    found = [
        f"{name}: a computed part or a link to a section differs"
        for name, parts in PAGES.items()
        if (root / name).read_text(encoding="utf-8") != page(root / name, parts, facts)
    ]
    for name, draw in PICTURES.items():
        if not (root / name).is_file() or not same_picture((root / name).read_bytes(), draw(facts)):
            found.append(f"{name}: another picture than the records give")
    return found


def same_picture(one: bytes, two: bytes) -> bool:
    """Two PNGs with the same pixels, but for the last bits of anti-aliased edges."""
    from PIL import Image

    arrays = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float) for data in (one, two)]
    return arrays[0].shape == arrays[1].shape and float(np.abs(arrays[0] - arrays[1]).mean()) < 0.5


def write(root: Path, results: Results, folder: str = "") -> None:
    """Write the pictures and the pages below ``folder`` ("": all): all are made before the first is written."""
    facts = facts_of(results)
    files = {name: draw(facts) for name, draw in PICTURES.items() if name.startswith(folder)}
    pages = {name: parts for name, parts in PAGES.items() if name.startswith(folder)}
    files |= {name: page(root / name, parts, facts).encode() for name, parts in pages.items()}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(root / name, content)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m book.front", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a page is not what the records say"
    )
    options = parser.parse_args(arguments)
    try:
        results = open_results(PROFILE)
        if options.check:
            found = problems(ROOT, results)
            print("\n".join(found) or "the pages are what the records say")
            return int(bool(found))
        write(ROOT, results)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {', '.join(FILES)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
