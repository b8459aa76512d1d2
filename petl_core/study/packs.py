"""Packs: many records in few files that are small enough to ship, read-only, each file with its checksum.

``records.jsonl`` has one record a line; ``environments.json`` the hardware and versions that the lines refer to by
number; ``predictions_<task>.npz`` the final runs' logits of one task, with its labels and ids once. The float16 logits
are kept exactly, their high and low bytes apart, which compresses better. ``checksums.json`` has the SHA-256 of each
of these files. Where predictions are not packed, the records still carry the SHA-256 of their logits, so that any run
can be compared to the bit.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from petl_core.utils import UserError, write_atomic

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


class Source(Protocol):
    """Records that can be packed: those of a folder, or of another pack."""

    root: Path

    def digests(self) -> list[str]: ...

    def get(self, spec: str) -> dict[str, Any]: ...

    def predictions(self, spec: str) -> Predictions: ...


def pack(
    records: Source,
    out: str | Path,
    digests: Iterable[str] | None = None,
    keep_logits: Callable[[dict[str, Any]], bool] | None = None,
) -> Path:
    """Write the records (all, or those of ``digests``) to the folder ``out`` in the packed form; returns ``out``.

    ``keep_logits`` says of a record whether its logits are packed too (default: of all that have them). Each file
    appears whole or not at all, and the checksums last: a pack that was not finished cannot be read.
    """
    out = Path(out)
    wanted = sorted(set(digests)) if digests is not None else records.digests()
    if not wanted:
        raise UserError(f"there are no records to pack in {records.root}; run a study first")
    environments: list[dict[str, Any]] = []
    lines: list[str] = []
    tasks: dict[str, list[str]] = {}
    for digest in wanted:
        record = dict(records.get(digest))
        if record["environment"] not in environments:
            environments.append(record["environment"])
        record["environment"] = environments.index(record["environment"])
        record["predictions"] = bool(record["predictions"] and (keep_logits is None or keep_logits(record)))
        if record["stage"] == "trial":
            record["history"] = []
        if record["predictions"]:
            tasks.setdefault(record["spec"]["task"], []).append(digest)
        lines.append(json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror or error}; choose another") from error
    for task, names in sorted(tasks.items()):
        _write_predictions(records, out / predictions_name(task), task, names)
    write_atomic(out / ENVIRONMENTS, (json.dumps(environments, indent=1) + "\n").encode())
    write_atomic(out / RECORDS, ("\n".join(lines) + "\n").encode())
    names = sorted([ENVIRONMENTS, RECORDS, *map(predictions_name, tasks)])
    checksums = {name: checksum((out / name).read_bytes()) for name in names}
    write_atomic(out / CHECKSUMS, (json.dumps(checksums, indent=1) + "\n").encode())
    return out


def _write_predictions(records: Source, path: Path, task: str, digests: list[str]) -> None:
    _, labels, ids = records.predictions(digests[0])
    logits = []
    for digest in digests:
        one, its_labels, its_ids = records.predictions(digest)
        if not np.array_equal(labels, its_labels) or ids != its_ids:
            raise UserError(f"records of task '{task}' differ in their test images; pack them into different folders")
        logits.append(np.ascontiguousarray(one, dtype="<f2"))
    planes = np.stack(logits).view(np.uint8).reshape(len(logits), *logits[0].shape, 2)
    arrays: dict[str, Any] = {"digests": np.array(digests), "labels": labels.astype(np.int16), "ids": np.array(ids)}
    arrays |= {"low": planes[..., 0], "high": planes[..., 1]}
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))
