"""Records: one directory per finished run, named by the digest of its spec; never lost, never half-written.

``<root>/<digest>/record.json`` holds the spec, the metrics after the last epoch, best-on-split kept apart, timings,
memory, hardware and versions; ``predictions.npz`` the test logits (float16), labels and sample ids. Both are written to
a temporary folder, synced to the disk, and renamed. Trials keep no predictions. ``record.json`` begins with checksums
of both, which are verified on reading: a changed number is an error, and a study sets such a record aside and runs it
again. ``study.packs`` reads and writes the compact form that is shipped; ``Records`` reads either.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
import math
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from petl_core import methods
from petl_core.study.environment import describe_environment
from petl_core.study.leases import left_behind, temporary
from petl_core.study.packs import RECORDS, Pack, Predictions, checksum
from petl_core.study.spec import CODE_VERSION, LATER_IN_RECIPE, RunSpec
from petl_core.training.recipe import Recipe
from petl_core.training.train import Run
from petl_core.utils import UserError, sync_folder, write_atomic

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "DamagedRecord", "Records", "RunSpec", "StorageError", "as_record", "logits_digest"]
COLUMNS = ["digest", "backbone", "method", "hyper", "size", "task", "group", "lr", "weight_decay", "drop_path"]
COLUMNS += ["epochs", "seed", "stage", "accuracy", "best_accuracy", "best_epoch", "train_accuracy", "params"]
COLUMNS += ["seconds", "diverged", "variant", "normalise", "decay", "batch_size", "train_on", "evaluate_on"]
COLUMNS += ["max_train", "classes", "steps", "peak_memory_mb", *LATER_IN_RECIPE]
MEASURED = ("size", "accuracy", "best_accuracy", "best_epoch", "train_accuracy", "peak_memory_mb")  # NaN where none
NAMED = "[0-9a-f]" * 16  # the names of records' folders


class StorageError(UserError):
    """A record cannot be written; there is no point in going on."""


class DamagedRecord(UserError):
    """A record is not as it was written."""


class Records:
    """The finished runs below one folder, or in a pack (a folder with ``records.jsonl``), which is read-only."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{self.root} is a file; the folder of records must be a folder")
        self.pack = Pack(self.root) if (self.root / RECORDS).is_file() else None

    def check_writable(self) -> None:
        """Make the folder and try to write in it; ``StorageError`` if that is impossible, before any run is begun."""
        self._check_unpacked()
        probe = temporary(self.root, "probe")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self.cannot_write(error) from error

    def cannot_write(self, error: Exception) -> StorageError:
        """The error to raise where writing in this folder failed."""
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return StorageError(
            f"cannot write records in {self.root}: {reason}; free some space or allow writing there, or choose "
            "another folder with --results, and start again (finished runs are kept)"
        )

    def _check_unpacked(self) -> None:
        if self.pack is not None:
            raise StorageError(f"{self.root} holds packed records, which are read-only; choose another folder")

    def clean(self) -> list[str]:
        """Remove what killed processes of this machine have left half-written, and set aside what is damaged, so that
        it is run again; returns a message for each damaged record."""
        for path in left_behind(self.root):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        messages = []
        for folder in sorted(self.root.glob(NAMED)):
            try:
                if self.get(folder.name)["predictions"]:
                    self.predictions(folder.name)
            except UserError as error:
                aside = folder.with_name(f"set-aside-{folder.name}-{secrets.token_hex(2)}")
                try:
                    folder.rename(aside)
                    messages.append(f"{error}. It is now {aside.name}")
                except FileNotFoundError:  # another study has just set it aside
                    continue
                except OSError as reason:
                    raise self.cannot_write(reason) from error
        return messages

    def has(self, spec: RunSpec | str) -> bool:
        """Is there a record of this spec or digest?"""
        digest = _digest(spec)
        return digest in self.pack.records if self.pack is not None else (self.root / digest / "record.json").is_file()

    def digests(self) -> list[str]:
        """The digests of all records, sorted."""
        if self.pack is not None:
            return sorted(self.pack.records)
        return sorted(p.parent.name for p in self.root.glob(f"{NAMED}/record.json"))

    def get(self, spec: RunSpec | str) -> dict[str, Any]:
        """The record of a run. ``UserError`` if there is none; ``DamagedRecord`` if it is not as it was written."""
        return self._read(_digest(spec))[0]

    def _read(self, digest: str) -> tuple[dict[str, Any], str]:
        """A record, verified, and the checksum of its own file of predictions, "" where it has none."""
        if not self.has(digest):
            raise UserError(f"no record {digest} in {self.root}; run the study that makes it")
        if self.pack is not None:
            return self.pack.records[digest], ""
        path = self.root / digest / "record.json"
        try:
            record = json.loads(path.read_bytes())
            checksums = record.pop("checksums", None)
            if checksums is None:
                raise ValueError("it has no checksum: an older version wrote it, or it was changed")
            if checksums["record"] != _record_checksum(record):
                raise ValueError("its checksum says that it was changed after it was written")
            if record["digest"] != digest:
                raise ValueError("it belongs to another run")
            return record, checksums["predictions"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, error) from error

    def predictions(self, spec: RunSpec | str) -> Predictions:
        """Logits (n, C) float16, labels (n,) int64 and ids of a final run's evaluation images."""
        digest = _digest(spec)
        record, expected = self._read(digest)
        if not record["predictions"]:
            why = "it is a trial, or its logits were not packed"
            raise UserError(f"record {digest} in {self.root} keeps no predictions ({why}); choose another run")
        if self.pack is not None:
            return self.pack.predictions(record)
        path = self.root / digest / "predictions.npz"
        try:
            content = path.read_bytes()
            if checksum(content) != expected:
                raise ValueError("its checksum says that it was changed after it was written")
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return file["logits"], file["labels"].astype(np.int64), tuple(file["ids"].tolist())

    def save(self, spec: RunSpec, run: Run, variant: str = "", environment: dict[str, Any] | None = None) -> None:
        """Write the record of a finished run; all or nothing. A record that exists is kept as it is."""
        self.add(*as_record(spec, run, variant, environment or describe_environment("cpu")))

    def add(self, record: dict[str, Any], predictions: Predictions | None) -> None:
        """Write a record as ``as_record`` makes it, with its predictions; all or nothing. One that exists stays."""
        self._check_unpacked()
        digest = record["digest"]
        folder = temporary(self.root, digest)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            answers = b""
            if predictions is not None:
                logits, labels, ids = predictions
                file = io.BytesIO()
                np.savez_compressed(file, logits=logits, labels=labels.astype(np.int32), ids=np.array(ids))
                answers = file.getvalue()
                write_atomic(folder / "predictions.npz", answers)
            write_atomic(folder / "record.json", _as_json(record, checksum(answers) if answers else ""))
            try:
                os.rename(folder, self.root / digest)
            except OSError:
                if not self.has(digest):
                    raise
            sync_folder(self.root)
        except (OSError, UserError) as error:
            raise self.cannot_write(error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add_variant(self, spec: RunSpec | str, *variants: str) -> None:
        """Note that a record also serves these variants of the protocol; the record's digest does not change."""
        digest = _digest(spec)
        record, answers = self._read(digest)
        if not set(variants) <= set(record["variants"]):
            record["variants"] = sorted({*record["variants"], *variants})
            write_atomic(self.root / digest / "record.json", _as_json(record, answers))

    def table(self) -> pd.DataFrame:
        """All records with flat columns (``COLUMNS``). A run that serves several variants has one row for each, so
        choose a variant first and then count or average."""
        import pandas as pd  # only here: importing petl_core stays quick

        rows = [row for digest in self.digests() for row in table_rows(self.get(digest))]
        return pd.DataFrame(rows, columns=COLUMNS)

    def __len__(self) -> int:
        return len(self.digests())


def as_record(
    spec: RunSpec, run: Run, variant: str, environment: dict[str, Any]
) -> tuple[dict[str, Any], Predictions | None]:
    """The record of a finished run and the predictions to keep with it: none of a trial or of a run that diverged."""
    keep = spec.stage == "final" and not run.diverged
    best = None
    if run.best_epoch is not None:
        best = {"on": run.evaluated_on, "accuracy": _number(run.best_accuracy), "epoch": run.best_epoch}
    record = {
        "digest": spec.digest,
        "code_version": CODE_VERSION,
        "stage": spec.stage,
        "variants": [variant] if variant else [],
        "spec": spec.to_dict(),
        "group": run.group,
        "classes": int(run.logits.shape[1]),
        "metrics": {
            "accuracy": _number(run.accuracy),
            "train_accuracy": _number(run.train_accuracy),
            "diverged": run.diverged,
            "steps": run.steps,
            "params": run.params,
        },
        "best": best,
        "history": [{key: _number(value, 7) for key, value in entry.items()} for entry in run.history],
        "logits_sha256": logits_digest(run.logits),
        "predictions": keep,
        "seconds": round(run.seconds, 3),
        **({} if run.cpu_seconds is None else {"cpu_seconds": round(run.cpu_seconds, 3)}),
        "peak_memory_mb": _number(run.peak_memory_mb, 6),
        **({"measures": run.measures} if run.measures else {}),
        **({"micro_batch": run.micro_batch} if run.micro_batch else {}),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": environment,
    }
    return record, (run.logits, run.labels, run.ids) if keep else None


def table_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One row of the table for each variant that the record serves."""
    spec, best = record["spec"], record["best"] or {}
    known = methods.registry.get(spec["method"])
    values = {**_RECIPE, **spec["recipe"], **spec, **record["metrics"], **record}
    values["hyper"] = json.dumps(spec["hyper"], sort_keys=True)
    size = spec["hyper"].get(known.size_field) if known and known.size_field else None
    values["size"] = None if size is None else float(size)
    values |= {"best_accuracy": best.get("accuracy"), "best_epoch": best.get("epoch")}
    values |= {name: math.nan for name in MEASURED if values[name] is None}
    return [{name: {**values, "variant": variant}[name] for name in COLUMNS} for variant in record["variants"] or [""]]


def logits_digest(logits: np.ndarray) -> str:
    """SHA-256 of float16 logits (n, C): equal digests mean equal predictions to the bit."""
    return hashlib.sha256(np.ascontiguousarray(logits, dtype="<f2").tobytes()).hexdigest()


_RECIPE = dataclasses.asdict(Recipe())


def _as_json(record: dict[str, Any], answers: str) -> bytes:
    """What is written of a record whose predictions have the checksum ``answers``."""
    record = json.loads(json.dumps(record, allow_nan=False))  # as it will be read, keys as text and tuples as lists
    checksums = {"record": _record_checksum(record), "predictions": answers}
    return json.dumps({"checksums": checksums, **record}, indent=1).encode()


def _record_checksum(record: dict[str, Any]) -> str:
    return checksum(json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def _damaged(path: Path, error: Exception) -> DamagedRecord:
    return DamagedRecord(
        f"the record {path} is damaged ({error}); start its study again, which sets it aside to run it again"
    )


def _digest(spec: RunSpec | str) -> str:
    return spec if isinstance(spec, str) else spec.digest


def _number(value: float | None, digits: int | None = None) -> float | int | None:
    """A JSON number: NaN and infinity become null, floats are cut to ``digits`` significant digits where given."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}") if digits and isinstance(value, float) else value
