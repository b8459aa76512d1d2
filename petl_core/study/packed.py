"""The reader of packs: many records in few files, read-only, each file with the checksum that it was written with.

``records.jsonl`` has one record a line; ``environments.json`` the hardware and versions that the lines refer to by
number; ``predictions_<task>.npz`` the final runs' logits of one task, with its labels and ids once. The float16 logits
are kept exactly, their high and low bytes apart, which compresses better. ``checksums.json`` has the SHA-256 of each
of these files. ``study.packs`` writes them.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from petl_core.utils import UserError

RECORDS, ENVIRONMENTS, CHECKSUMS = "records.jsonl", "environments.json", "checksums.json"
Predictions = tuple[np.ndarray, np.ndarray, tuple[str, ...]]  # logits (n, C) float16, labels (n,) int64, ids


def checksum(content: bytes) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(content).hexdigest()


def predictions_name(task: str) -> str:
    """The file of a task's predictions; a task name may hold a path."""
    return f"predictions_{re.sub(r'[^A-Za-z0-9_-]+', '_', task)}.npz"


class Pack:
    """A packed folder, read as a whole; predictions are read when asked for, a task at a time.

    Raises ``UserError`` naming a file that is not as it was written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cache: tuple[str, dict[str, np.ndarray]] = ("", {})
        try:
            self._checksums: dict[str, str] = dict(json.loads((root / CHECKSUMS).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise self._damaged(CHECKSUMS, f"{error}; if it is not there, an older version wrote the pack") from error
        environments = json.loads(self._content(ENVIRONMENTS))
        records = [json.loads(line) for line in self._content(RECORDS).splitlines()]
        for record in records:
            record["environment"] = environments[record["environment"]]
        self.records = {record["digest"]: record for record in records}

    def predictions(self, record: dict[str, Any]) -> Predictions:
        """Logits, labels and ids of a run whose predictions were packed."""
        name = predictions_name(record["spec"]["task"])
        if self._cache[0] != name:
            with np.load(io.BytesIO(self._content(name)), allow_pickle=False) as file:
                self._cache = (name, {key: file[key] for key in file.files})
        arrays = self._cache[1]
        row = arrays["digests"].tolist().index(record["digest"])
        planes = np.stack([arrays["low"][row], arrays["high"][row]], axis=-1)  # (n, C, 2) bytes, little-endian
        return planes.view("<f2")[..., 0], arrays["labels"].astype(np.int64), tuple(arrays["ids"].tolist())

    def _content(self, name: str) -> bytes:
        """The bytes of a file, if they are those that were written."""
        path = self.root / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._damaged(name, error.strerror or str(error)) from error
        if checksum(content) != self._checksums.get(name):
            raise self._damaged(name, f"its checksum is not the one in {CHECKSUMS}")
        return content

    def _damaged(self, name: str, reason: str) -> UserError:
        return UserError(f"the file {self.root / name} is damaged ({reason}); get a fresh copy of {self.root}")
