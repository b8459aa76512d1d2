"""Build the book: put ``book/`` and the executed notebooks together, and let Jupyter Book make HTML of them.

    python -m petl_core.book --out runs/book

The notebooks are shown with the outputs they have; nothing is executed. Warnings are errors. The site is built in a
temporary folder and moved to ``--out`` when it is whole.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from petl_core.book_site import faults, finish
from petl_core.errors import UserError
from petl_core.notebooks import FOLDER, ROOT
from petl_core.report import offline

SOURCE = ROOT / "book"
WIDGET = "application/vnd.jupyter.widget-view+json"
CHAPTER_LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb")


def stage(chapters: Path, folder: Path, source: Path = SOURCE) -> list[Path]:
    """Copy the book's configuration and the notebooks of ``chapters`` into ``folder``, as Jupyter Book wants them."""
    notebooks = sorted(chapters.glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise UserError(
            f"no NN_topic.ipynb in {chapters}: execute the notebooks first, see python -m petl_core.notebooks --help"
        )
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("_build"))
    (folder / "notebooks").mkdir()
    return [_with_descriptions(path, folder / "notebooks" / path.name) for path in notebooks]


def _with_descriptions(source: Path, target: Path) -> Path:
    """Copy a notebook; a picture's description, which ``style.show`` leaves in the output, goes where MyST-NB looks.

    Links between chapters in computed text lead to the pages: MyST-NB leaves those in outputs as they are.
    """
    notebook = json.loads(source.read_text(encoding="utf-8"))
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if "outputs" in cell:  # a widget is dead without a kernel, and its scripts would come from elsewhere
            cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
        for output in cell.get("outputs", []):
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
            if payload := output.get("data", {}).get(offline.MIME):
                output["data"] = {"text/html": offline.page(payload)}
            if text := output.get("data", {}).get("text/markdown"):
                output["data"]["text/markdown"] = CHAPTER_LINK.sub(r"](\1.html", "".join(text))
    target.write_text(json.dumps(notebook), encoding="utf-8")
    return target


def build(out: Path, chapters: Path = FOLDER, source: Path = SOURCE) -> Path:
    """Build the book of the notebooks in ``chapters`` into ``out``; return its front page. RuntimeError on warnings."""
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "book"
        stage(chapters, staged, source)
        start = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"  # it has no __main__
        command = [sys.executable, "-c", start, "build", str(staged), "-W", "-n", "--keep-going", "--quiet"]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise RuntimeError(f"the book does not build:\n{done.stdout.replace(str(staged), str(source))}")
        site = staged / "_build" / "html"
        (site / "_static" / "vega.js").write_text(offline.library(), encoding="utf-8")  # figures.js asks for it
        finish(site, sorted(chapters.glob("[0-9][0-9]_*.ipynb")))
        if found := faults(site):
            raise RuntimeError("the book does not build:\n" + "\n".join(found))
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(site, out)
    return out / "index.html"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m petl_core.book", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--chapters", type=Path, default=FOLDER, metavar="DIR", help="executed notebooks (notebooks)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "book", metavar="DIR", help="for the site (runs/book)"
    )
    options = parser.parse_args(arguments)
    try:
        print(build(options.out, options.chapters))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
