"""Leases: who does which run, so that several studies on one folder share the work instead of each doing all of it.

While a run is done, ``<root>/.lease-<digest>`` is there, with host, process and time of its holder, who touches it
every ``RENEWED`` seconds. A lease that was not touched for ``EXPIRES`` seconds is void; where its process was one of
this machine and is gone, it is so at once. In the worst case (a machine that sleeps longer) a run is done twice, and
the first record counts: nothing depends on leases but work saved.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import filelock

RENEWED, EXPIRES = 15.0, 120.0  # seconds
LOCK = ".leases"  # the file that is locked while one is taken or given back
HOST = socket.gethostname()


def alive(pid: int) -> bool:
    """Is there a process of this number on this machine? Where that cannot be asked (not POSIX), yes."""
    if pid == os.getpid() or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def temporary(root: Path, what: str) -> Path:
    """A name in a folder of records for what is not finished; it tells which process is at it."""
    return root / f".tmp-{what}@{HOST}@{os.getpid()}"


def left_behind(root: Path) -> list[Path]:
    """What processes of this machine have begun under such names and, being gone, will not finish."""
    parts = [(path, path.name.rsplit("@", 2)) for path in root.glob(".tmp-*@*@*")]
    return [path for path, (_, host, pid) in parts if host == HOST and pid.isdigit() and not alive(int(pid))]


class Leases:
    """The leases that one study holds on the runs of a folder; they are given back at the end of a ``with``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = secrets.token_hex(8)
        self.held: set[str] = set()
        self._closed = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        self._remove_void()
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for digest in list(self.held):
            self.give_back(digest)

    def take(self, digest: str) -> bool:
        """Take the lease on a run; False where another holds it. Raises ``OSError`` where it cannot be written."""
        path = self._path(digest)
        with self._alone():
            if path.exists() and not _void(path):
                return False
            holder = {"host": HOST, "pid": os.getpid(), "name": self.name, "time": round(time.time())}
            unfinished = temporary(self.root, self.name)
            unfinished.write_text(json.dumps(holder))
            os.replace(unfinished, path)
        self.held.add(digest)
        return True

    def give_back(self, digest: str) -> None:
        """Give a lease back, if it is still this one's."""
        self.held.discard(digest)
        path = self._path(digest)
        with contextlib.suppress(OSError), self._alone():
            if _read(path).get("name") == self.name:
                path.unlink(missing_ok=True)

    def holder(self, digest: str) -> str:
        """Who holds the lease on a run, as text."""
        found = _read(self._path(digest))
        return f"process {found.get('pid', '?')} on {found.get('host', '?')}"

    def _remove_void(self) -> None:
        """Remove the void leases that killed studies left."""
        with contextlib.suppress(OSError), self._alone():
            for path in self.root.glob(".lease-*"):
                if _void(path):
                    path.unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self.root / f".lease-{digest}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other study looks at the leases; where the disk knows no locks, at the same time."""
        lock = filelock.FileLock(self.root / LOCK, timeout=2)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(filelock.Timeout, NotImplementedError):
                stack.enter_context(lock)
            yield

    def _renew(self) -> None:
        while not self._closed.wait(RENEWED):
            for digest in list(self.held):
                with contextlib.suppress(OSError):
                    os.utime(self._path(digest))


def _read(path: Path) -> dict[str, Any]:
    """What a lease says; nothing where it is gone or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _void(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:  # given back just now
        return True
    found = _read(path)
    gone = found.get("host") == HOST and isinstance(found.get("pid"), int) and not alive(found["pid"])
    return gone or age > EXPIRES
