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
from pathlib import Path
from typing import Any, Self

RENEWED, EXPIRES = 15.0, 120.0  # seconds
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
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for digest in list(self.held):
            self.give_back(digest)

    def take(self, digest: str) -> bool:
        """Take the lease on a run; False where another holds it. Raises ``OSError`` where it cannot be written."""
        path = self._path(digest)
        if not self._create(path) and not (_void(path) and self._remove_void(path) and self._create(path)):
            return False
        self.held.add(digest)
        return True

    def give_back(self, digest: str) -> None:
        """Give a lease back, if it is still this one's."""
        self.held.discard(digest)
        path = self._path(digest)
        if _read(path).get("name") == self.name:
            with contextlib.suppress(OSError):
                path.unlink()

    def holder(self, digest: str) -> str:
        """Who holds the lease on a run, as text."""
        found = _read(self._path(digest))
        return f"process {found.get('pid', '?')} on {found.get('host', '?')}"

    def clean(self) -> None:
        """Remove the void leases that killed studies left."""
        for path in self.root.glob(".lease-*"):
            if _void(path):
                self._remove_void(path)

    def _path(self, digest: str) -> Path:
        return self.root / f".lease-{digest}"

    def _create(self, path: Path) -> bool:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            json.dump({"host": HOST, "pid": os.getpid(), "name": self.name, "time": round(time.time())}, file)
        return True

    def _remove_void(self, path: Path) -> bool:
        """Remove a void lease. Of several that try, one succeeds; what another took meanwhile is put back."""
        aside, before = temporary(self.root, self.name), _read(path)
        try:
            os.rename(path, aside)
        except OSError:
            return True  # given back or taken over just now: whoever creates it next has it
        if _read(aside) != before:
            os.rename(aside, path)
            return False
        aside.unlink()
        return True

    def _renew(self) -> None:
        while not self._closed.wait(RENEWED):
            for digest in list(self.held):
                with contextlib.suppress(OSError):
                    os.utime(self._path(digest))


def _read(path: Path) -> dict[str, Any]:
    """What a lease says; nothing where it is gone, or its holder is just writing it."""
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
