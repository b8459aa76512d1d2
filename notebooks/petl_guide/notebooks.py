"""Execute the notebooks, write the committed ones, and check that what is committed is what the source says.

    python -m petl_guide notebooks execute --profile smoke --out runs/notebooks/smoke --only 04
    python -m petl_guide notebooks refresh            # at the laptop profile, on the shipped records, into notebooks/
    python -m petl_guide notebooks pair               # carry an edit of the prose over, outputs kept
    python -m petl_guide notebooks check

The source of a chapter is ``notebooks/NN_topic.py`` (jupytext's percent format); ``NN_topic.ipynb`` beside it is made
from it, here and nowhere else. A source has one cell tagged ``parameters``, whose names may be overridden: ``PROFILE``,
``RESULTS`` ("shipped" or "fresh") and ``RUNS`` (where the records are; "" for ``data/results`` or, fresh, for
``runs/results-<PROFILE>``). Their defaults come from the environment variables ``PETL_PROFILE``, ``PETL_RESULTS`` and
``PETL_RUNS``.

The same source, package and records give the same bytes: cell ids are digests of the cells, timings are removed,
widgets are numbered. The notebook's metadata hold digests of the code and of the records that the outputs came from.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from petl_core.study.profiles import profile as find_profile
from petl_core.utils import DATA, RESULTS, UserError, write_atomic

ROOT = DATA.parent
FOLDER = ROOT / "notebooks"
PARAMETERS = ("PROFILE", "RESULTS", "RUNS")
ON_PHOTOGRAPHS = ("03", "04", "05", "06", "07", "08", "12")  # chapters that read the records on photographs too
CELL_SECONDS = 7200  # after which a cell is ended; a cell of RESULTS = "fresh" runs a study, if there are no records
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
KERNEL = {  # for the kernels: one thread each, so that numbers do not depend on the cores, and no network
    "PYTHONHASHSEED": "0",
    "HF_HUB_OFFLINE": "1",
    "JUPYTER_PLATFORM_DIRS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


def records_folder(profile: str, results: str, runs: str | Path = "") -> Path:
    """Where a notebook finds its records: in ``runs`` if that is given, else the shipped ones, or the place of those
    computed anew."""
    if results not in ("shipped", "fresh"):
        raise UserError(f"RESULTS is {results!r}; use 'shipped' (those there are) or 'fresh' (what lacks is computed)")
    if runs:
        return Path(runs)
    return RESULTS / find_profile(profile).shipped if results == "shipped" else ROOT / "runs" / f"results-{profile}"


def sources(only: Sequence[str] = (), folder: Path = FOLDER) -> list[Path]:
    """The notebooks' sources in order; ``only`` keeps those whose file names start with one of its strings."""
    found = sorted(folder.glob("[0-9][0-9]_*.py"))
    missing = [start for start in only if not any(path.name.startswith(start) for path in found)]
    if missing:
        names = ", ".join(path.stem for path in found) or "none"
        raise UserError(f"no notebook in {folder} starts with {missing[0]!r}; there are: {names}")
    return [path for path in found if not only or path.name.startswith(tuple(only))]


def read(source: Path) -> Any:
    """The source as a notebook without outputs, with cell ids that depend on the cells alone."""
    notebook = jupytext.read(source)
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        cell.id = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[cell.id] = seen.get(cell.id, 0) + 1
        if seen[cell.id] > 1:
            cell.id += f"-{seen[cell.id]}"
    metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return nbformat.from_dict({**notebook, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def load(path: Path) -> Any:
    """A notebook from an ``.ipynb`` file. UserError if it is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, KeyError) as error:
        raise UserError(f"{path.name} is not a notebook ({type(error).__name__}): write it anew") from error


def write(notebook: Any, path: Path) -> None:
    """Write a valid notebook, whole or not at all."""
    nbformat.validate(notebook)
    write_atomic(path, (nbformat.writes(notebook) + "\n").encode())


def parameters(notebook: Any, name: str) -> set[str]:
    """The names that the cell tagged ``parameters`` assigns."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise UserError(f"{name}: {len(cells)} cells are tagged 'parameters'; a notebook needs exactly one")
    targets = (node.targets for node in ast.parse(cells[0].source).body if isinstance(node, ast.Assign))
    return {target.id for group in targets for target in group if isinstance(target, ast.Name)}


def execute(
    source: Path, out: Path, values: dict[str, str] | None = None, *, timeout: int | None = CELL_SECONDS
) -> Any:
    """Run one source in a kernel of this interpreter, with papermill; write and return the executed notebook.

    ``values`` override parameters that the notebook has; the others are left out. A cell that takes more than
    ``timeout`` seconds raises TimeoutError; one that fails RuntimeError naming the notebook; what ran is in ``out``.
    """
    import papermill

    notebook = read(source)
    known = parameters(notebook, source.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / f"{source.stem}.ipynb"
        write(notebook, bare)
        try:
            papermill.execute_notebook(
                str(bare),
                str(out),
                parameters={name: value for name, value in (values or {}).items() if name in known},
                kernel_name="python3",
                cwd=str(source.parent),
                progress_bar=False,
                execution_timeout=timeout,
            )
        except papermill.PapermillExecutionError as error:
            raise RuntimeError(f"{source.name}: {error.ename}: {error.evalue} (see {out})") from error
    executed = tidy(load(out), source.stem)
    write(executed, out)
    return executed


def tidy(notebook: Any, stem: str) -> Any:
    """Drop what differs from one execution to the next: timings, versions, half-drawn progress bars, widgets' names."""
    notebook.metadata = {key: notebook.metadata[key] for key in sorted(notebook.metadata) if key != "papermill"}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in ("tags", "jupyter", "slideshow") if cell.metadata.get(key)}
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
    text = json.dumps(notebook)
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for number, name in enumerate(sorted(widgets, key=text.index)):
        text = text.replace(name, hashlib.md5(f"{stem} {number}".encode()).hexdigest())
    return nbformat.from_dict(json.loads(text))


def refresh(source: Path, *, timeout: int | None = CELL_SECONDS) -> Path:
    """Execute with the parameters as they stand in the source and write the committed notebook; return its path."""
    target = source.with_suffix(".ipynb")
    for name in PARAMETERS:
        os.environ.pop(f"PETL_{name}", None)
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(source, Path(folder) / target.name, timeout=timeout)
    notebook.metadata["petl_core"] = provenance(notebook, source.name)
    write(notebook, target)
    return target


def pair(source: Path) -> Path:
    """Write the notebook anew from the source, keeping the outputs of cells that have not changed."""
    target = source.with_suffix(".ipynb")
    notebook = read(source)
    if target.exists():
        before = load(target)
        kept = {cell.id: cell for cell in before.cells if cell.cell_type == "code"}
        for cell in notebook.cells:
            if cell.id in kept:
                cell.outputs, cell.execution_count = kept[cell.id].outputs, kept[cell.id].execution_count
        for key in {"petl_core", "widgets"} & set(before.metadata):
            notebook.metadata[key] = before.metadata[key]
    write(notebook, target)
    return target


def provenance(notebook: Any, name: str) -> dict[str, str]:
    """What the outputs came from: digests of the code cells and, for a notebook that reads records, of the records;
    those on photographs count for the chapters in ``ON_PHOTOGRAPHS``."""
    code = json.dumps([cell.source for cell in notebook.cells if cell.cell_type == "code"])
    folders = [RESULTS]
    if name.startswith(ON_PHOTOGRAPHS):
        folders.append(RESULTS / "real")
    records = digest_files(*folders) if "RESULTS" in parameters(notebook, name) else ""
    return {"code": hashlib.sha256(code.encode()).hexdigest()[:16], "records": records}


def digest_files(*folders: Path) -> str:
    """A digest of the names and the contents of the files in these folders, those of sub-folders left out."""
    digest = hashlib.sha256()
    for path in (path for folder in folders for path in sorted(folder.glob("*")) if path.is_file()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def check(source: Path) -> list[str]:
    """What is wrong with the committed notebook of this source; an empty list if nothing is."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} is missing: make notebooks"]
    expected, found = read(source), load(target)
    if [_content(cell) for cell in expected.cells] != [_content(cell) for cell in found.cells]:
        return [
            f"{target.name} is not what {source.name} says: make notebooks (or, for prose, petl_guide notebooks pair)"
        ]
    problems, made_from = unfinished(target), found.metadata.get("petl_core", {})
    for key, value in provenance(expected, source.name).items():
        if made_from.get(key) != value:
            problems.append(f"{target.name}: the outputs come from other {key} than there is now: make notebooks")
    for number, cell in enumerate(found.cells):
        for output in cell.get("outputs", []):
            shown = json.dumps([output.get("text", ""), output.get("data", {}).get("text/plain", "")])
            if address := ADDRESS.search(shown):
                what = f"a memory address ({address[0].strip()}), another one each time"
                problems.append(f"{target.name}, cell {number}: shows {what}")
            if str(ROOT) in shown or str(Path.home()) + os.sep in shown:
                problems.append(f"{target.name}, cell {number}: shows a folder of the machine it ran on")
    return problems


def _content(cell: Any) -> tuple[str, str, list[str]]:
    """What a cell and its counterpart in the source must have in common."""
    return cell.cell_type, cell.source, sorted(cell.metadata.get("tags", []))


def unfinished(path: Path) -> list[str]:
    """The cells of a notebook that were not executed, or ended in an error that nobody meant."""
    problems = []
    for number, cell in enumerate(load(path).cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if not cell.execution_count:
            problems.append(f"{path.name}, cell {number}: was not executed: python -m petl_guide notebooks execute")
        for output in cell.outputs:
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
                problems.append(f"{path.name}, cell {number}: ended in {output.ename}: {output.evalue}")
    return problems


def attempt(work: Callable[..., Any], source: Path, *args: Any, timeout: int | None) -> tuple[str, float, str]:
    """Do ``work(source, *args)``, once more if a cell took too long: on a busy machine a kernel's answer is lost now
    and then, and then client and kernel wait for each other for ever. Returns name, seconds, and what went wrong, if
    anything did."""
    start, error = time.perf_counter(), ""
    for number in (1, 2):
        try:
            work(source, *args, timeout=timeout)
            error = ""
        except TimeoutError:
            error = f"a cell took more than {timeout} s (--timeout), twice"
            if number == 1:
                print(f"{source.stem}: a cell took more than {timeout} s; once more", flush=True)
                continue
        except (RuntimeError, ValueError, OSError) as wrong:
            error = str(wrong)
        break
    return source.stem, time.perf_counter() - start, error


def _quiet() -> None:
    os.environ.update(KERNEL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _all(work: Callable[..., Any], jobs: list[tuple[Any, ...]], workers: int, timeout: int | None) -> int:
    """Run the jobs in worker processes; print each as it ends; return how many failed."""
    failed = 0
    size = max(1, min(workers, len(jobs)))
    with ProcessPoolExecutor(size, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        for future in as_completed([pool.submit(attempt, work, *job, timeout=timeout) for job in jobs]):
            stem, seconds, error = future.result()
            failed += bool(error)
            outcome = f"failed after {seconds:.0f} s: {error}" if error else f"executed after {seconds:.0f} s"
            print(f"{stem}: {outcome}", flush=True)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m petl_guide notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("execute", "run the notebooks at a profile, outside notebooks/"),
        ("refresh", "run them as committed and write them back"),
        ("pair", "write the .ipynb files from the sources, outputs kept"),
        ("check", "see that the committed notebooks are what the sources say"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--only", nargs="+", default=[], metavar="NN", help="the notebooks whose names start so")
        command.add_argument("--notebooks", type=Path, default=FOLDER, metavar="DIR", help="where the sources are")
        if name in ("execute", "refresh"):
            command.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="at a time (one per core)")
            limit = f"seconds that one cell may take ({CELL_SECONDS}; 0: no limit)"
            command.add_argument("--timeout", type=int, default=CELL_SECONDS, help=limit)
        if name == "execute":
            command.add_argument("--profile", default="smoke", help="smoke, quick, laptop, gpu or full (smoke)")
            command.add_argument(
                "--results", choices=("shipped", "fresh"), default="fresh", help="read, or computed if lacking (fresh)"
            )
            command.add_argument("--runs", default="", metavar="DIR", help="where they are (data/results or runs/...)")
            command.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the executed notebooks")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, do, and return the exit code; ``python -m petl_guide`` passes its arguments on and prints a UserError."""
    options = _parser().parse_args(arguments)
    chosen = sources(options.only, options.notebooks)
    if options.command == "execute":
        runs = str(records_folder(options.profile, options.results, options.runs).resolve())
        values = {"PROFILE": options.profile, "RESULTS": options.results, "RUNS": runs}
        jobs = [(path, options.out / f"{path.stem}.ipynb", values) for path in chosen]
        return int(_all(execute, jobs, options.workers, options.timeout or None) > 0)
    if options.command == "refresh":
        if _all(refresh, [(path,) for path in chosen], options.workers, options.timeout or None):
            return 1
    elif options.command == "pair":
        for path in chosen:
            pair(path)
    problems = [problem for path in chosen for problem in check(path)]
    print("\n".join(problems) or f"{len(chosen)} notebooks are what their sources say", file=sys.stdout)
    return int(bool(problems))
