"""Packs: many records in few files, small enough to ship.

``records.jsonl`` has one record a line; ``environments.json`` the hardware and versions that the lines refer to by
number; ``predictions_<task>.npz`` the final runs' logits of one task, with its labels and ids once. The float16 logits
are kept exactly, their high and low bytes apart, which compresses better. Where predictions are not packed, the
records still carry the SHA-256 of their logits, so that any run can be compared to the bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from petl_core.utils import UserError, write_atomic

if TYPE_CHECKING:
    from petl_core.study.records import Records


class Pack:
    """A packed folder, read as a whole; predictions are read when asked for, a task at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cache: tuple[str, dict[str, np.ndarray]] | None = None
        path = root / "records.jsonl"
        try:
            environments = json.loads((root / "environments.json").read_text(encoding="utf-8"))
            records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            for record in records:
                record["environment"] = environments[record["environment"]]
            self.records = {record["digest"]: record for record in records}
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(f"the records packed in {path} are damaged ({error}); get a fresh copy of it") from error

    def __contains__(self, digest: str) -> bool:
        return digest in self.records

    def get(self, digest: str) -> dict[str, Any]:
        if digest not in self.records:
            raise UserError(f"no record {digest} in {self.root}; run the study that makes it")
        return self.records[digest]

    def predictions(self, digest: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        record = self.get(digest)
        if not record["predictions"]:
            raise UserError(f"the pack {self.root} holds no predictions of record {digest}; run it to get them")
        path = self.root / predictions_name(record["spec"]["task"])
        try:
            if self._cache is None or self._cache[0] != path.name:
                with np.load(path, allow_pickle=False) as file:
                    self._cache = (path.name, {key: file[key] for key in file.files})
            arrays = self._cache[1]
            row = arrays["digests"].tolist().index(digest)
            planes = np.stack([arrays["low"][row], arrays["high"][row]], axis=-1)  # (n, C, 2) bytes, little-endian
            return planes.view("<f2")[..., 0], arrays["labels"].astype(np.int64), tuple(arrays["ids"].tolist())
        except Exception as error:  # zipfile, zlib, OSError, KeyError, ValueError: all mean the same to the reader
            raise UserError(f"the file {path} is damaged ({error}); get a fresh copy of {self.root}") from error


def predictions_name(task: str) -> str:
    """The file of a task's predictions; a task name may hold a path."""
    return f"predictions_{re.sub(r'[^A-Za-z0-9_-]+', '_', task)}.npz"


def pack(
    records: Records,
    out: str | Path,
    digests: Iterable[str] | None = None,
    predictions_of: Iterable[str] | None = None,
    without: Iterable[str] = (),
) -> Path:
    """Write the records (all, or those of ``digests``) to the folder ``out`` in the packed form; returns ``out``.

    ``predictions_of`` lists the variants whose logits are kept (default: all), ``without`` tasks whose are not. Files
    appear whole or not at all.
    """
    out = Path(out)
    wanted = sorted(set(digests)) if digests is not None else records.digests()
    if not wanted:
        raise UserError(f"there are no records to pack in {records.root}; run a study first")
    kept, left_out = None if predictions_of is None else set(predictions_of), set(without)
    environments: list[dict[str, Any]] = []
    lines: list[str] = []
    tasks: dict[str, list[str]] = {}
    for digest in wanted:
        record = dict(records.get(digest))
        environment = record["environment"]
        if environment not in environments:
            environments.append(environment)
        record["environment"] = environments.index(environment)
        wanted_here = record["spec"]["task"] not in left_out and (kept is None or kept & set(record["variants"]))
        record["predictions"] = bool(record["predictions"] and wanted_here)
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
    write_atomic(out / "environments.json", (json.dumps(environments, indent=1) + "\n").encode())
    write_atomic(out / "records.jsonl", ("\n".join(lines) + "\n").encode())
    return out


def unpack(shipped: Records, out: Records, digests: Iterable[str]) -> int:
    """Copy packed records into a folder of records, so that a study there does not repeat them; returns how many.

    Those that ``out`` has already are left alone. A record whose logits were not packed has none there either. Which
    variants a copy serves is left open: the study that wants it says so, and may have chosen other runs.
    """
    count = 0
    for digest in digests:
        if shipped.has(digest) and not out.has(digest):
            record = {**shipped.get(digest), "variants": []}
            out.add(record, shipped.predictions(digest) if record["predictions"] else None)
            count += 1
    return count


def _write_predictions(records: Records, path: Path, task: str, digests: list[str]) -> None:
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
