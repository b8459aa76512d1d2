"""Build the book: put ``book/`` and the executed notebooks together, and let Jupyter Book make HTML of them.

    python -m book.build --out runs/book
    python -m book.build --print --out runs/book-print     # one page, and a PDF of it
    python -m book.build --profile quick --runs runs/results-quick --chapters runs/notebooks/quick --out runs/quick

The notebooks are shown with the outputs they have; nothing is executed, nothing is fetched. What is not sound stops the
build and is named: a notebook that was not executed, one whose outputs come from other code or records than there are
now, a reference to nowhere (every warning is an error), a page that would load from another host or is too large. The
site is built in a temporary folder and moved to ``--out`` when it is whole.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from book.checks import Site
from book.paper import BROWSER, print_site
from book.site import finish
from book.stage import find, stage
from petl_core.utils import PUBLISHED, RESULTS, UserError
from petl_guide.notebooks import FOLDER, ROOT, check, unfinished
from petl_guide.results import of_folder

SOURCE = ROOT / "book"
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def build(out: Path, chapters: Path = FOLDER, source: Path = SOURCE, *, records: tuple[str, str] | None = None) -> Path:
    """Build the book of the notebooks in ``chapters`` into ``out``; return its front page.

    ``records``: the profile and the folder of the records that the other pages are computed from (the shipped ones).

    Raises UserError if an input is not sound, RuntimeError if Jupyter Book warns or the site is not as it should be.
    """
    notebooks = inputs(out, chapters)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "book"
        stage(notebooks, staged, source, records=records)
        site = run_jupyter_book(staged, "html", source)
        finish(site, notebooks)
        checked = Site(site)
        require_none(checked.outside_requests() + checked.unset_formulas() + checked.too_large())
        print(f"{out / 'index.html'}: {checked.sizes()}")
        move(site, out)
    return out / "index.html"


def build_print(out: Path, chapters: Path = FOLDER, source: Path = SOURCE) -> list[Path]:
    """Build the book as one page into ``out``, and a PDF of it where there is a browser; return what there is."""
    notebooks = inputs(out, chapters)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "book"
        stage(notebooks, staged, source, paper=True)
        site = run_jupyter_book(staged, "singlehtml", source)
        finish(site, ())
        checked = Site(site)
        require_none(checked.outside_requests() + checked.unset_formulas())
        assert checked.first is not None, "Jupyter Book's index.html leads to the page"
        names = print_site(checked.folder, checked.first)
        move(site, out)
    return [out / name for name in names]


def inputs(out: Path, chapters: Path) -> list[Path]:
    """The notebooks to show. UserError naming what is unsound, before anything is built: something else than a book at
    ``out``, no records, or a notebook; one that lies beside its source must be what that source says."""
    if out.exists() and not (out / "index.html").is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is not a book (it has no index.html); choose another folder or remove it")
    for folder in (RESULTS, PUBLISHED):
        if not folder.is_dir() or not any(folder.iterdir()):
            raise UserError(f"{folder}: there are no records, which pages are computed from: git checkout {folder}")
    notebooks = find(chapters)
    found = []
    for path in notebooks:
        source = path.with_suffix(".py")
        found += check(source) if source.exists() else unfinished(path)
    if found:
        raise UserError("the book is not built:\n" + "\n".join(f"  {problem}" for problem in found))
    return notebooks


def require_none(found: list[str]) -> None:
    """RuntimeError if something is wrong with the site."""
    if found:
        raise RuntimeError("the book does not build:\n" + "\n".join(found))


def run_jupyter_book(staged: Path, builder: str, source: Path) -> Path:
    """Let Jupyter Book build what is staged, every warning an error; return the folder that it wrote."""
    start = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"  # it has no __main__
    command = [sys.executable, "-c", start, "build", str(staged), "--builder", builder]
    done = subprocess.run(
        [*command, "-W", "-n", "--keep-going", "--quiet"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,  # where the extension book.computed is found
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
    )
    if done.returncode:
        words = COLOUR.sub("", done.stdout).replace(str(staged), str(source))
        raise RuntimeError(f"the book does not build:\n{words}")
    return staged / "_build" / builder


def move(site: Path, out: Path) -> None:
    """Put a whole site in place of the one at ``out``; what is there is never half of one."""
    part = out.with_name(f".{out.name}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(site, part)  # from the temporary folder, which may be on another disk
    if out.exists():
        shutil.rmtree(out)
    part.rename(out)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m book.build", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--chapters", type=Path, default=FOLDER, metavar="DIR", help="executed notebooks (notebooks)")
    parser.add_argument("--runs", metavar="DIR", help="records to compute the other pages from (the shipped ones)")
    parser.add_argument("--profile", help="with --runs: whose records those are, such as quick")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the site (runs/book, or runs/book-print)")
    parser.add_argument("--print", action="store_true", help="one page with all chapters, and a PDF of it")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        if bool(options.runs) != bool(options.profile) or (options.runs and options.print):
            raise UserError("--runs DIR and --profile NAME go together, and without --print")
        if options.print:
            made = build_print(options.out or ROOT / "runs" / "book-print", options.chapters)
            print("\n".join(map(str, made)))
            if len(made) == 1:
                print(f"no PDF, for want of a Chromium: install one, name it in {BROWSER}, or print the page by hand")
        else:
            if options.runs:
                of_folder(options.profile, options.runs)  # an error before anything is built
            records = (options.profile, str(Path(options.runs).resolve())) if options.runs else None
            build(options.out or ROOT / "runs" / "book", options.chapters, records=records)
            print(f"built in {time.perf_counter() - start:.0f} s")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
