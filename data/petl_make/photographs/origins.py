"""Getting the tree of an origin: one shallow fetch of its commit by git, or what the user has unpacked.

Nothing of git's own settings for passwords is asked; a server that stays silent is given up after ``patience`` seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from petl_core.utils import UserError
from petl_make.photographs.table import Origin

PATIENCE = 120.0  # seconds without a sign of life
REF = "refs/photographs/commit"
MEANWHILE = "`make reproduce` needs none of these images"
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "LC_ALL": "C"}
_LEFT_OUT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")  # of a git that runs us


def demand_git() -> None:
    """``UserError`` where there is no git."""
    if shutil.which("git") is None:
        raise UserError(f"git is not installed (or not on the PATH); install it, or give --from FOLDER; {MEANWHILE}")


def instead(origin: Origin) -> str:
    """What to do where an origin cannot be had."""
    where = ", ".join(origin.paths) or "the whole tree"
    return (
        f"Start it again; or download that commit elsewhere, unpack it as FOLDER/{origin.name}/... ({where}), then "
        f"--from FOLDER. {MEANWHILE}"
    )


def given(origin: Origin, folder: Path) -> Path:
    """The tree that the user unpacked in ``folder/<name>``, or in the only thing there (as archives have it)."""
    base = folder / origin.name
    inside = list(base.iterdir()) if base.is_dir() else []
    trees = [base, *inside] if len(inside) == 1 else [base]
    if not origin.paths and base.is_dir():
        return trees[-1]
    for tree in trees:
        if origin.paths and all((tree / path).exists() for path in origin.paths):
            return tree
    raise UserError(f"{base} does not hold {', '.join(origin.paths) or 'a tree'}. {instead(origin)}")


def fetched(origin: Origin, scratch: Path, server: str, patience: float = PATIENCE) -> Path:
    """The tree of the origin's commit, below ``scratch``; what was fetched whole before is not fetched again.

    Raises ``UserError`` with the address, the commit and what to do where the network, the server, the repository or
    the commit is not there, or sends something else."""
    repository, tree, url = scratch / "origin.git", scratch / "tree", origin.url(server)
    try:
        if not _commit(repository, REF):
            commit = origin.commit
            if len(commit) < 40:
                commit = _whole(commit, scratch, url, patience)
            _fetch(repository, url, ["--depth", "1"], f"+{commit}:{REF}", patience)
        shutil.rmtree(tree, ignore_errors=True)
        _unpack(repository, origin.paths, tree)
    except _Failed as error:
        raise UserError(f"{url} at commit {origin.commit}: {error}. {instead(origin)}") from error
    return tree


class _Failed(Exception):
    """What git said."""


def _fetch(repository: Path, url: str, options: list[str], reference: str, patience: float) -> None:
    """Fetch a reference into a repository that is made anew; ``_Failed`` where that does not go."""
    shutil.rmtree(repository, ignore_errors=True)
    inside = ["--git-dir", str(repository)]
    slowest = ("http.lowSpeedLimit=1000", f"http.lowSpeedTime={max(1, round(patience))}")  # bytes a second, seconds
    for setting in (*slowest, "credential.helper=", "gc.auto=0", "maintenance.auto=false"):
        inside += ["-c", setting]
    _git(["init", "--quiet", "--bare", str(repository)], repository.parent, patience)
    _git([*inside, "remote", "add", "origin", url], repository.parent, patience)
    _git([*inside, "fetch", "--progress", "--no-tags", *options, "origin", reference], repository.parent, patience)


def _whole(start: str, scratch: Path, url: str, patience: float) -> str:
    """All forty digits of a commit by its first ones, found among the commits of the branches, which are fetched
    without their trees: a server gives a commit by its whole name only."""
    names = scratch / "names.git"
    _fetch(names, url, ["--filter=tree:0"], "+refs/heads/*:refs/heads/*", patience)
    commit = _commit(names, start)
    if not commit:
        raise _Failed("no branch there has that commit: it was moved or rewritten")
    return commit


def _commit(repository: Path, name: str) -> str:
    """The whole name of a commit, empty where it is not there."""
    command = ["git", "--git-dir", str(repository), "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}"]
    return subprocess.run(command, env=_environment(), capture_output=True, text=True).stdout.strip()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _LEFT_OUT} | _QUIET


def _git(arguments: list[str], scratch: Path, patience: float) -> None:
    """Run git and show its progress on a terminal; ``_Failed`` where it fails, or says nothing for ``patience`` s."""
    log = scratch / "git.log"
    with open(log, "wb") as output, open(log, "rb") as answer:
        process = subprocess.Popen(
            ["git", *arguments], env=_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        said, heard, running = b"", time.monotonic(), True
        try:
            while running:
                running = process.poll() is None
                chunk = answer.read()
                if chunk:
                    said, heard = said + chunk, time.monotonic()
                    if sys.stderr.isatty():
                        sys.stderr.write(chunk.decode(errors="replace"))
                elif time.monotonic() - heard > patience:
                    raise _Failed(f"no answer for {patience:.0f} seconds")
                time.sleep(0.05)
        finally:
            _end(process)
    if process.returncode:
        raise _Failed(_reason(said) or f"git ended with code {process.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and what it started, if it still runs."""
    if process.poll() is None:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def _reason(said: bytes) -> str:
    """The lines of git's answer that say what was wrong."""
    lines = said.decode(errors="replace").replace("\r", "\n").splitlines()
    wrong = [line for line in lines if line.startswith(("fatal:", "error:", "remote: ERROR"))]
    return "; ".join(wrong[:3])


def _unpack(repository: Path, paths: tuple[str, ...], tree: Path) -> None:
    """Write the files of the fetched commit, as they are in it, to ``tree``."""
    exact = ["-c", "core.autocrlf=false", "-c", "core.eol=lf"]
    command = ["git", "--git-dir", str(repository), *exact, "archive", "--format=tar", REF, "--", *paths]
    with subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        broken = ""
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(tree)
        except tarfile.TarError as error:
            broken = f"its archive is cut ({error})"
        reason = _reason(process.stderr.read())
    if process.returncode or broken:
        raise _Failed(reason or broken or f"git ended with code {process.returncode}")
