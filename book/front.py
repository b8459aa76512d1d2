"""The computed parts of the README and its picture, from the shipped records.

    python -m book.front            # write them
    python -m book.front --check    # are they what the shipped records say?

A part stands between two marks, ``<!-- computed: NAME: begin -->`` and ``<!-- computed: NAME: end -->``; all else in
the README is written by hand. The parts of the book's pages are computed when it is built (``book.computed``).
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from book.computed import facts_of
from book.pages import summary
from petl_core.utils import UserError, write_atomic
from petl_guide.chapters import chapter_table, chapters
from petl_guide.facts import Facts
from petl_guide.notebooks import ROOT
from petl_guide.results import SHIPPED

README, PICTURE = "README.md", "book/images/accuracy.png"
PARTS: Mapping[str, Callable[[Facts], str]] = {
    "findings": summary.paragraphs,
    "chapters": lambda _: chapter_table(chapters()),
}


def marks(name: str) -> tuple[str, str]:
    """The marks before and after the part called ``name``."""
    return f"<!-- computed: {name}: begin -->", f"<!-- computed: {name}: end -->"


def readme(text: str, facts: Facts) -> str:
    """The README as it should be. ``UserError`` if the marks of a part are not there once each, or belong to none."""
    for name in set(re.findall(r"<!-- computed: (.+?): (?:begin|end) -->", text)) - set(PARTS):
        raise UserError(f"{README} has marks of a part '{name}'; its parts are: {', '.join(PARTS)}")
    for name, part in PARTS.items():
        begin, end = marks(name)
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise UserError(f"{README} needs the marks '{begin}' and '{end}', once each, around what is computed")
        before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
        text = f"{before}\n{part(facts)}\n{after}"
    return text


def problems(root: Path, facts: Facts) -> list[str]:
    """What in the README and its picture is not what the records and the sources say; an empty list if nothing is."""
    found, text = [], (root / README).read_text(encoding="utf-8")
    if text != readme(text, facts):
        found.append(f"{README}: a computed part differs")
    if not (root / PICTURE).is_file() or not same_picture((root / PICTURE).read_bytes(), summary.picture(facts).png):
        found.append(f"{PICTURE}: another picture than the records give")
    return found


def same_picture(one: bytes, two: bytes) -> bool:
    """Two PNGs with the same pixels, but for the last bits of anti-aliased edges."""
    arrays = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float) for data in (one, two)]
    return arrays[0].shape == arrays[1].shape and float(np.abs(arrays[0] - arrays[1]).mean()) < 0.5


def write(root: Path, facts: Facts) -> None:
    """Write README and picture: both are made before the first is written."""
    text = readme((root / README).read_text(encoding="utf-8"), facts)
    picture = summary.picture(facts).png
    write_atomic(root / README, text.encode())
    write_atomic(root / PICTURE, picture)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m book.front", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if they are not what records say")
    options = parser.parse_args(arguments)
    try:
        facts = facts_of(SHIPPED)
        if options.check:
            found = problems(ROOT, facts)
            print("\n".join(found) or "the README is what the records say")
            return int(bool(found))
        write(ROOT, facts)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {README}, {PICTURE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
