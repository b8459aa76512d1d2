"""The picture and the sentences of the front pages (README.md, book/intro.md), drawn from the shipped records.

    python -m petl_core.report.front            # write them
    python -m petl_core.report.front --check    # are they what the shipped records say?

The sentences stand between two marks in each page; everything else on the page is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from petl_core.analysis import accuracy, published, select, similar
from petl_core.errors import UserError
from petl_core.files import write_atomic
from petl_core.paths import DATA
from petl_core.report import claims, figures
from petl_core.report.results import Results, open_results
from petl_core.report.style import Shown, show, title
from petl_core.report.verdict import CONTRADICTED, NOT_RUN, NOT_TESTABLE, SUPPORTED, UNDECIDED

PROFILE = "laptop"
PAGES = ("README.md", "book/intro.md")
PICTURE = "book/images/accuracy.png"
START, END = "<!-- from the records: begin -->", "<!-- from the records: end -->"
CLOSE = 2.0  # points; "near the best" in the title


def _tuned(results: Results) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The tuned final runs, their means by group, and the PEFT methods from best to worst."""
    tuned = select.runs(results.table, "tuned")
    return tuned, accuracy.by_group(tuned), select.peft(accuracy.order(tuned))


def picture(results: Results) -> Shown:
    """Accuracy of every method in each group, with intervals over seeds."""
    _, by_group, peft = _tuned(results)
    means = by_group[by_group["group"] == accuracy.MEAN].set_index("method")["mean"]
    near = [m for m in peft if means[peft[0]] - means[m] <= CLOSE]
    message = f"{len(near)} of {len(peft)} PEFT methods lie within {CLOSE:g} points of the best one"
    alt = (
        "Dots with 95 % intervals over seeds: test accuracy of each method on natural, specialised and structured "
        f"tasks and the mean of the groups. {message}."
    )
    return show(figures.accuracy_by_group(by_group, message), alt)


def sentences(results: Results) -> str:
    """What the picture shows, in words with their numbers."""
    tuned, by_group, peft = _tuned(results)
    means = by_group[by_group["group"] == accuracy.MEAN].set_index("method")["mean"]
    ranked = means.sort_values(ascending=False)
    plan = results.profile
    _, parts = similar.methods_and_seeds(tuned[tuned["method"].isin(peft)])
    counted = published.counted(peft)
    _, rest = similar.methods_and_seeds(tuned[tuned["method"].isin(counted)])
    place = list(ranked.index).index("full") + 1
    text = (
        f"{len(means)} methods on {tuned['task'].nunique()} tasks with {plan.trials} tuning trials each and "
        f"{len(plan.seeds)} seeds (profile {plan.name}, backbone `{plan.backbone}`). The best PEFT method is "
        f"{title(peft[0])} with {means[peft[0]]:.1f} %, the last {title(peft[-1])} with {means[peft[-1]]:.1f} %; full "
        f"fine-tuning reaches {means['full']:.1f} % (place {place} of {len(ranked)}) and linear probing "
        f"{means['linear']:.1f} %. PEFT methods differ by {parts.method:.1f} points (standard deviation, seed noise "
        f"removed; {rest.method:.1f} among the {len(counted)} that the study counts), two runs of one method by "
        f"{parts.seed:.1f}. "
        f"Pictures are small and runs short ({plan.final.epochs} epochs): chapter 4 has the tests, longer runs as a "
        "control, and the published numbers beside these."
    )
    return "\n".join([*_wrapped(text), "", *_wrapped(_claims(results))])


def _claims(results: Results) -> str:
    """How the study's claims come out on these records."""
    words = {claim.number: claims.on_ours(claim, results).verdict for claim in claims.CLAIMS}
    of = {word: [number for number, its in words.items() if its == word] for word in dict.fromkeys(words.values())}
    said = ", ".join(
        f"{len(of[word])} {word} ({', '.join(of[word])})"
        for word in (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN, NOT_TESTABLE)
        if word in of
    )
    return f"Of the {len(words)} claims of the study these records find {said}; chapter 12 has effects and intervals."


def _wrapped(text: str, width: int = 120) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def problems(root: Path, results: Results) -> list[str]:
    """What on the front pages is not what the records say; an empty list if nothing is."""
    found = [
        f"{name}: the sentences differ"
        for name in PAGES
        if (root / name).read_text("utf-8") != _page(root / name, results)
    ]
    path = root / PICTURE
    if not path.is_file() or not same_picture(path.read_bytes(), picture(results).png):
        found.append(f"{PICTURE}: another picture than the records give")
    return found


def same_picture(one: bytes, two: bytes) -> bool:
    """Two PNGs with the same pixels, but for the last bits of anti-aliased edges."""
    import io

    from PIL import Image

    arrays = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float) for data in (one, two)]
    return arrays[0].shape == arrays[1].shape and float(np.abs(arrays[0] - arrays[1]).mean()) < 0.5


def _page(path: Path, results: Results) -> str:
    """The page with its sentences as they should be."""
    text = path.read_text(encoding="utf-8")
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise UserError(
            f"{path} needs the marks '{START}' and '{END}', once each, around the sentences from the records"
        )
    return re.sub(f"{START}.*?{END}", lambda _: f"{START}\n{sentences(results)}\n{END}", text, flags=re.DOTALL)


def write(root: Path, results: Results) -> None:
    """Write the picture and the sentences."""
    pages = {name: _page(root / name, results).encode() for name in PAGES}  # all of them, before anything is written
    (root / PICTURE).parent.mkdir(exist_ok=True)
    write_atomic(root / PICTURE, picture(results).png)
    for name, text in pages.items():
        write_atomic(root / name, text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m petl_core.report.front", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a page is not what the records say"
    )
    options = parser.parse_args(arguments)
    root = DATA.parent
    try:
        results = open_results(PROFILE)
        if options.check:
            found = problems(root, results)
            print("\n".join(found) or "the front pages are what the records say")
            return int(bool(found))
        write(root, results)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {PICTURE} and the sentences of {' and '.join(PAGES)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
