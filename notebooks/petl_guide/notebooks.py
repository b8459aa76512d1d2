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
import hashlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from petl_core.utils import DATA, RESULTS, UserError
from petl_guide.notebook_files import content, digest_files, load, parameters, read, tidy, write

ROOT = DATA.parent
FOLDER = ROOT / "notebooks"
PARAMETERS = ("PROFILE", "RESULTS", "RUNS")
STUCK, IDLE = 300.0, 1.0  # seconds after which a kernel that used less processor time than that is taken to be stuck
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


def records_folder(profile: str, results: str, runs: str | Path = "") -> Path:
    """Where a notebook finds its records: in ``runs`` if that is given, else the shipped ones, or the place of those
    computed anew."""
    if results not in ("shipped", "fresh"):
        raise UserError(f"RESULTS is {results!r}; use 'shipped' (those there are) or 'fresh' (what lacks is computed)")
    if runs:
        return Path(runs)
    if results == "shipped":
        from petl_core.study.profiles import profile as find

        return RESULTS / find(profile).shipped
    return ROOT / "runs" / f"results-{profile}"


def sources(only: Sequence[str] = (), folder: Path = FOLDER) -> list[Path]:
    """The notebooks' sources in order; ``only`` keeps those whose file names start with one of its strings."""
    found = sorted(folder.glob("[0-9][0-9]_*.py"))
    missing = [start for start in only if not any(path.name.startswith(start) for path in found)]
    if missing:
        names = ", ".join(path.stem for path in found) or "none"
        raise UserError(f"no notebook in {folder} starts with {missing[0]!r}; there are: {names}")
    return [path for path in found if not only or path.name.startswith(tuple(only))]


def execute(source: Path, out: Path, values: dict[str, str] | None = None, *, timeout: int | None = None) -> Any:
    """Run one source in a kernel of this interpreter, with papermill; write and return the executed notebook.

    ``values`` override parameters that the notebook has; the others are left out. ``timeout``: seconds a cell may take.
    A failing cell raises RuntimeError naming the notebook; what ran until then is in ``out``.
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


def refresh(source: Path, *, timeout: int | None = None) -> Path:
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
        notebook.metadata.update(
            {key: before.metadata[key] for key in ("petl_core", "widgets") if key in before.metadata}
        )
    write(notebook, target)
    return target


def provenance(notebook: Any, name: str) -> dict[str, str]:
    """What the outputs came from: digests of the code cells and, for a notebook that reads records, of the records;
    those on photographs count where a notebook reads them (``results.open_real``)."""
    code = json.dumps([cell.source for cell in notebook.cells if cell.cell_type == "code"])
    photographs = any(name in code for name in ("open_real(", "claims.ledger(", "claims_ours."))
    folders = [RESULTS, RESULTS / "real"] if photographs else [RESULTS]
    records = digest_files(*folders) if "RESULTS" in parameters(notebook, name) else ""
    return {"code": hashlib.sha256(code.encode()).hexdigest()[:16], "records": records}


def check(source: Path) -> list[str]:
    """What is wrong with the committed notebook of this source; an empty list if nothing is."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} is missing: make notebooks"]
    expected, found = read(source), load(target)
    if [content(cell) for cell in expected.cells] != [content(cell) for cell in found.cells]:
        return [
            f"{target.name} is not what {source.name} says: make notebooks (or, for prose, petl_guide notebooks pair)"
        ]
    problems, made_from = [], found.metadata.get("petl_core", {})
    for key, value in provenance(expected, source.name).items():
        if made_from.get(key) != value:
            problems.append(f"{target.name}: the outputs come from other {key} than there is now: make notebooks")
    for number, cell in enumerate(found.cells):
        if cell.cell_type != "code":
            continue
        problems += [f"{target.name}, cell {number}: {problem}" for problem in _output_problems(cell)]
    return problems


def _output_problems(cell: Any) -> Iterable[str]:
    if cell.source.strip() and not cell.execution_count:
        yield "was not executed"
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
            yield f"ended in {output.ename}: {output.evalue}"
        shown = json.dumps([output.get("text", ""), output.get("data", {}).get("text/plain", "")])
        if ADDRESS.search(shown):
            yield f"shows a memory address ({ADDRESS.search(shown)[0].strip()}), another one each time"  # type: ignore[index]
        if str(ROOT) in shown or str(Path.home()) + os.sep in shown:
            yield "shows a folder of the machine it ran on"


def _quiet_environment() -> None:
    """For the kernels: one thread each, so that numbers do not depend on the cores, and no network."""
    fixed = {
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    os.environ.update(fixed)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _timed(work: Callable[..., Any], source: Path, *args: Any) -> tuple[str, float, str]:
    _quiet_environment()
    start = time.perf_counter()
    for attempt in ("first", "second"):
        with _watched(STUCK) as stuck:
            try:
                work(source, *args)
            except (RuntimeError, ValueError, OSError) as error:
                if stuck.is_set() and attempt == "first":
                    print(f"{source.stem}: its kernel did nothing for {STUCK:.0f} s; once more", flush=True)
                    continue
                return source.stem, time.perf_counter() - start, str(error)
        break
    return source.stem, time.perf_counter() - start, ""


@contextmanager
def _watched(seconds: float) -> Iterator[threading.Event]:
    """Inside, kill the processes that this one started once they have used no processor for so long, and set the event.

    On a busy machine a kernel's answer is lost now and then, and then client and kernel wait for each other for ever.
    """
    import psutil  # comes with ipykernel

    stuck, over = threading.Event(), threading.Event()

    def used(processes: list[Any]) -> float:
        total = 0.0
        for process in processes:
            with suppress(psutil.Error):
                total += sum(process.cpu_times()[:2])
        return total

    def watch() -> None:
        me = psutil.Process()
        last, since = 0.0, time.monotonic()
        while not over.wait(min(5.0, seconds / 4)):
            children = me.children(recursive=True)
            now = used(children)
            if not children or abs(now - last) > IDLE:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > seconds:
                stuck.set()
                for process in children:
                    with suppress(psutil.Error):
                        process.kill()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield stuck
    finally:
        over.set()
        thread.join()


def _all(work: Callable[..., Any], jobs: list[tuple[Any, ...]], workers: int) -> int:
    """Run the jobs in worker processes; print each as it ends; return how many failed."""
    failed = 0
    with ProcessPoolExecutor(max(1, min(workers, len(jobs))), mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_timed, work, *job) for job in jobs]):
            stem, seconds, error = future.result()
            failed += bool(error)
            print(
                f"{stem}: {'failed' if error else 'executed'} after {seconds:.0f} s" + f": {error}" * bool(error),
                flush=True,
            )
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m petl_guide.notebooks", description=(__doc__ or "").split("\n")[0])
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
            command.add_argument("--timeout", type=int, help="seconds that one cell may take (no limit)")
        if name == "execute":
            command.add_argument("--profile", default="smoke", help="smoke, quick, laptop, gpu or full (smoke)")
            command.add_argument(
                "--results", choices=("shipped", "fresh"), default="fresh", help="read, or computed if lacking (fresh)"
            )
            command.add_argument("--runs", default="", metavar="DIR", help="where they are (data/results or runs/...)")
            command.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the executed notebooks")
    options = parser.parse_args(arguments)
    try:
        chosen = sources(options.only, options.notebooks)
        if options.command == "execute":
            runs = str(records_folder(options.profile, options.results, options.runs).resolve())
            values = {"PROFILE": options.profile, "RESULTS": options.results, "RUNS": runs}
            jobs = [(path, options.out / f"{path.stem}.ipynb", values) for path in chosen]
            return int(_all(execute, jobs, options.workers) > 0)
        if options.command == "refresh" and _all(refresh, [(path,) for path in chosen], options.workers):
            return 1
        if options.command == "pair":
            for path in chosen:
                pair(path)
        problems = [problem for path in chosen for problem in check(path)]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(problems) or f"{len(chosen)} notebooks are what their sources say")
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())
