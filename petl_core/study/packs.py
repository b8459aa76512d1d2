"""Writes packs: records in few files that are small enough to ship.

``study.packed`` says what a pack consists of. Where predictions are not packed, the records still carry the SHA-256 of
their logits, so that any run can be compared to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from petl_core.study.packed import CHECKSUMS, ENVIRONMENTS, RECORDS, checksum, predictions_name
from petl_core.study.records import Records
from petl_core.utils import UserError, write_atomic


def pack(
    records: Records,
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
    write_checksums(out, [ENVIRONMENTS, RECORDS, *map(predictions_name, tasks)])
    return out


def write_checksums(folder: Path, names: Iterable[str]) -> Path:
    """Write the checksums of these files of a pack, as they are now; returns the path."""
    checksums = {name: checksum((folder / name).read_bytes()) for name in sorted(names)}
    return write_atomic(folder / CHECKSUMS, (json.dumps(checksums, indent=1) + "\n").encode())


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
