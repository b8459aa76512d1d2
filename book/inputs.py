"""Is what the book would show sound? Found out before anything is built, so that a bad input stops it and is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from petl_core.utils import PUBLISHED, RESULTS, UserError
from petl_guide.notebooks import FOLDER, ROOT, check, sources


def require_sound(chapters: list[Path]) -> None:
    """Raise UserError naming what is unsound: a notebook; for the committed ones also records and the front page."""
    found = [problem for path in chapters for problem in unfinished(path)]
    if all(path.resolve().parent == FOLDER for path in chapters) and not found:
        found = list(_committed_problems())
    if found:
        raise UserError("the book is not built:\n" + "\n".join(f"  {problem}" for problem in found))


def unfinished(path: Path) -> Iterator[str]:
    """What a notebook lacks to be shown: cells that were not executed or ended in an error that nobody meant."""
    execute = "make notebooks" if path.resolve().parent == FOLDER else "python -m petl_guide notebooks execute"
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        yield f"{path}: not a notebook ({error}): write it anew with {execute}"
        return
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        if not cell.get("execution_count"):
            yield f"{path}, cell {number}: was not executed: {execute}"
        for output in cell.get("outputs", []):
            if output["output_type"] == "error" and "raises-exception" not in cell["metadata"].get("tags", []):
                yield f"{path}, cell {number}: ended in {output['ename']}: {output['evalue']}; mend it, then {execute}"


def _committed_problems() -> Iterator[str]:
    """What is wrong with the committed notebooks and the front page, given the sources and the shipped records."""
    from book import front
    from petl_guide.results import open_results

    missing = [folder for folder in (RESULTS, PUBLISHED) if not folder.is_dir() or not any(folder.iterdir())]
    for folder in missing:
        yield f"{folder}: there are no records, from which what the notebooks show comes: git checkout {folder}"
    if missing:
        return
    for source in sources():
        yield from check(source)
    for problem in front.problems(ROOT, open_results(front.PROFILE)):
        yield f"{problem}: python -m book.front"
