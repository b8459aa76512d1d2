"""Records: one directory per finished run, named by the digest of its spec; never lost, never half-written.

``<root>/<digest>/record.json`` holds the spec, the metrics after the last epoch, best-on-split kept apart, timings,
memory, hardware and versions; ``predictions.npz`` the test logits (float16), labels and sample ids. Both are written to
``<root>/.tmp-<digest>-<pid>``, synced to the disk, and renamed. Trials keep no predictions. ``study.packs`` writes
and reads the compact form that is shipped; ``Records`` reads either.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from petl_core import methods
from petl_core.data.task import base_split
from petl_core.study.environment import describe_environment
from petl_core.study.packs import Pack, pack, unpack
from petl_core.training.train import Recipe, Run
from petl_core.utils import UserError, sync_folder, write_atomic

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CODE_VERSION", "COLUMNS", "Records", "RunSpec", "StorageError", "pack", "unpack"]
CODE_VERSION = 1  # raise it by hand whenever a change of the code changes results: older records are then not reused
LATER: dict[str, Any] = {"head": "new", "measure": []}
LATER_IN_RECIPE: dict[str, Any] = {"l2_sp": 0.0, "layer_decay": 1.0}
LATER_IN_RECIPE |= {"augment": "none", "checkpointing": False, "compile": "auto", "clip_norm": None}
COLUMNS = ["digest", "backbone", "method", "hyper", "size", "task", "group", "lr", "weight_decay", "drop_path"]
COLUMNS += ["epochs", "seed", "stage", "accuracy", "best_accuracy", "best_epoch", "train_accuracy", "params"]
COLUMNS += ["seconds", "diverged", "variant", "normalise", "decay", "batch_size", "train_on", "evaluate_on"]
COLUMNS += ["max_train", "classes", "steps", "peak_memory_mb", *LATER_IN_RECIPE]


class StorageError(UserError):
    """A record cannot be written; there is no point in going on."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's result. ``weights`` and ``task_digest`` are digests of the bytes used.

    ``hyper`` is completed with the method's defaults, so that a spec says all. ``image_size`` None: the backbone's own.
    ``LATER`` are fields that came after the first records: they are written, and count, where they are not the default.
    """

    backbone: str
    weights: str
    method: str
    hyper: dict[str, Any]
    task: str
    task_digest: str
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0
    train_on: str = "train1000"
    evaluate_on: str = "test"
    track: bool = False
    max_train: int | None = None
    max_evaluate: int | None = None
    image_size: int | None = None
    head: str = "new"  # or "zero_shot", or "probe" (petl_core.training.probe): what the head starts from
    measure: tuple[str, ...] = ()  # what to measure of the trained model: names of petl_core.study.measures

    def __post_init__(self) -> None:
        hyper = {key: tuple(v) if isinstance(v, list) else v for key, v in self.hyper.items()}
        if "+" not in self.method:
            hyper = methods.get(self.method, **hyper).hyper()
        elif hyper:
            raise UserError(f"the combination '{self.method}' takes no hyper-parameters; it got {', '.join(hyper)}")
        object.__setattr__(self, "hyper", hyper)

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that name the run: SHA-256 of this spec as canonical JSON with the code version."""
        text = json.dumps([CODE_VERSION, self.to_dict()], sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def stage(self) -> str:
        """ "trial" where the validation images are evaluated, "final" otherwise."""
        return "trial" if base_split(self.evaluate_on) == "val200" else "final"

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        values = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
        for part, names in ((values, LATER), (values["recipe"], LATER_IN_RECIPE)):
            for name, default in names.items():
                if part[name] == default:
                    del part[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunSpec:
        """The spec that ``to_dict`` gave."""
        measure = tuple(values.get("measure", ()))
        return cls(**{**values, "recipe": Recipe(**values["recipe"]), "measure": measure})

    def __hash__(self) -> int:
        return hash(self.digest)

    def __str__(self) -> str:
        size = methods.registry[self.method].size_field if self.method in methods.registry else None
        shown = f" {size} {self.hyper[size]}" if size else ""
        rate = f"lr {self.recipe.lr:g}, drop path {self.recipe.drop_path:g}"
        return f"{self.method}{shown} on {self.task}, {rate}, seed {self.seed}, {self.stage}"


class Records:
    """The finished runs below one folder, or in a pack (a folder with ``records.jsonl``), which is read-only."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{self.root} is a file; the folder of records must be a folder")
        self.pack: Pack | None = None
        if (self.root / "records.jsonl").is_file():
            self.pack = Pack(self.root)

    def check_writable(self) -> None:
        """Make the folder and try to write in it; ``StorageError`` if that is impossible, before any run is begun."""
        self._check_unpacked()
        probe = self.root / f".tmp-probe-{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise _storage_error(self.root, error) from error

    def _check_unpacked(self) -> None:
        if self.pack is not None:
            raise StorageError(f"{self.root} holds packed records, which are read-only; choose another folder")

    def clean(self) -> None:
        """Remove what killed processes of this machine have left half-written."""
        for folder in self.root.glob(".tmp-*"):
            pid = folder.name.rpartition("-")[2]
            if pid.isdigit() and not _alive(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)

    def has(self, spec: RunSpec | str) -> bool:
        """Is there a record of this spec or digest?"""
        digest = _digest(spec)
        return digest in self.pack if self.pack is not None else (self.root / digest / "record.json").is_file()

    def digests(self) -> list[str]:
        """The digests of all records, sorted."""
        if self.pack is not None:
            return sorted(self.pack.records)
        return sorted(p.parent.name for p in self.root.glob("[0-9a-f]*/record.json"))

    def get(self, spec: RunSpec | str) -> dict[str, Any]:
        """The content of ``record.json``. ``UserError`` if there is none, or naming the file if it is not whole."""
        digest = _digest(spec)
        if self.pack is not None:
            return self.pack.get(digest)
        path = self.root / digest / "record.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["digest"] != digest or record["spec"]["recipe"] is None or record["metrics"] is None:
                raise ValueError("it belongs to another run")
        except FileNotFoundError:
            raise UserError(f"no record {digest} in {self.root}; run the study that makes it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"the record {path} is damaged ({error}); delete {path.parent} and run it again") from error
        return record

    def predictions(self, spec: RunSpec | str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Logits (n, C) float16, labels (n,) int64 and ids of a final run's evaluation images."""
        digest = _digest(spec)
        if self.pack is not None:
            return self.pack.predictions(digest)
        if not self.get(digest).get("predictions"):
            raise UserError(
                f"record {digest} in {self.root} keeps no predictions (it is a trial, or its logits were not packed); "
                "choose another run"
            )
        path = self.root / digest / "predictions.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                logits, labels, ids = file["logits"], file["labels"].astype(np.int64), file["ids"]
            if not len(logits) == len(labels) == len(ids):
                raise ValueError("its arrays differ in length")
        except Exception as error:  # zipfile, zlib, OSError, KeyError, ValueError: all mean the same to the reader
            raise UserError(f"the file {path} is damaged ({error}); delete {path.parent} and run it again") from error
        return logits, labels, tuple(ids.tolist())

    def save(self, spec: RunSpec, run: Run, variant: str = "", environment: dict[str, Any] | None = None) -> None:
        """Write the record of a finished run; all or nothing. A record that exists is kept as it is."""
        self._check_unpacked()
        keep = spec.stage == "final" and not run.diverged
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
            "best": {"on": run.evaluated_on, "accuracy": _number(run.best_accuracy), "epoch": run.best_epoch}
            if run.best_epoch is not None
            else None,
            "history": [{key: _number(value, 7) for key, value in entry.items()} for entry in run.history],
            "logits_sha256": logits_digest(run.logits),
            "predictions": keep,
            "seconds": round(run.seconds, 3),
            **({} if run.cpu_seconds is None else {"cpu_seconds": round(run.cpu_seconds, 3)}),
            "peak_memory_mb": _number(run.peak_memory_mb, 6),
            **({"measures": run.measures} if run.measures else {}),
            **({"micro_batch": run.micro_batch} if run.micro_batch else {}),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "environment": environment or describe_environment("cpu"),
        }
        self.add(record, (run.logits, run.labels, run.ids) if keep else None)

    def add(self, record: dict[str, Any], predictions: tuple[np.ndarray, np.ndarray, tuple[str, ...]] | None) -> None:
        """Write a record as ``save`` makes it, with logits, labels and ids; all or nothing. One that exists stays."""
        self._check_unpacked()
        digest = record["digest"]
        target = self.root / digest
        temporary = self.root / f".tmp-{digest}-{os.getpid()}"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            if predictions is not None:
                logits, labels, ids = predictions
                with open(temporary / "predictions.npz", "wb") as file:
                    np.savez_compressed(file, logits=logits, labels=labels.astype(np.int32), ids=np.array(ids))
                    _sync(file)
            with open(temporary / "record.json", "w", encoding="utf-8") as file:
                json.dump(record, file, indent=1, allow_nan=False)
                _sync(file)
            sync_folder(temporary)
            try:
                os.rename(temporary, target)
            except OSError:
                if not self.has(digest):
                    raise
            sync_folder(self.root)
        except OSError as error:
            raise _storage_error(self.root, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def add_variant(self, spec: RunSpec | str, variant: str) -> None:
        """Note that a record also serves this variant of the protocol; the record's digest does not change."""
        record = self.get(spec)
        if variant in record["variants"]:
            return
        record["variants"] = sorted([*record["variants"], variant])
        path = self.root / _digest(spec) / "record.json"
        write_atomic(path, json.dumps(record, indent=1, allow_nan=False).encode())

    def table(self) -> pd.DataFrame:
        """All records with flat columns (``COLUMNS``). A run that serves several variants has one row for each, so
        choose a variant first and then count or average."""
        import pandas as pd  # only here: importing petl_core stays quick

        rows = [row for digest in self.digests() for row in table_rows(self.get(digest))]
        return pd.DataFrame(rows, columns=COLUMNS)

    def __len__(self) -> int:
        return len(self.digests())


def table_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One row of the table for each variant that the record serves."""
    spec, metrics, best = record["spec"], record["metrics"], record["best"] or {}
    known = methods.registry.get(spec["method"])
    size = spec["hyper"].get(known.size_field) if known and known.size_field else None
    row = {
        "digest": record["digest"],
        "hyper": json.dumps(spec["hyper"], sort_keys=True),
        "size": math.nan if size is None else float(size),
        "stage": record["stage"],
        "group": record["group"],
        "classes": record["classes"],
        "best_accuracy": best.get("accuracy", math.nan),
        "best_epoch": best.get("epoch", math.nan),
        "seconds": record["seconds"],
        "peak_memory_mb": math.nan if record["peak_memory_mb"] is None else record["peak_memory_mb"],
        **{key: spec[key] for key in ("backbone", "method", "task", "seed", "train_on", "evaluate_on", "max_train")},
        **{key: spec["recipe"][key] for key in ("lr", "weight_decay", "drop_path", "epochs", "normalise", "decay")},
        "batch_size": spec["recipe"]["batch_size"],
        **{key: spec["recipe"].get(key, default) for key, default in LATER_IN_RECIPE.items()},
        **{key: math.nan if metrics[key] is None else metrics[key] for key in ("accuracy", "train_accuracy")},
        **{key: metrics[key] for key in ("params", "diverged", "steps")},
    }
    return [{**row, "variant": variant} for variant in record["variants"] or [""]]


def logits_digest(logits: np.ndarray) -> str:
    """SHA-256 of float16 logits (n, C): equal digests mean equal predictions to the bit."""
    return hashlib.sha256(np.ascontiguousarray(logits, dtype="<f2").tobytes()).hexdigest()


def _digest(spec: RunSpec | str) -> str:
    return spec if isinstance(spec, str) else spec.digest


def _number(value: float | None, digits: int | None = None) -> float | int | None:
    """A JSON number: NaN and infinity become null, floats are cut to ``digits`` significant digits where given."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}") if digits and isinstance(value, float) else value


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    if os.name != "posix":
        return True  # there, asking would end the process; leave the folder
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _storage_error(root: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write records in {root}: {error.strerror or error}; free some space or allow writing there, "
        "or choose another folder with --results, and start again (finished runs are kept)"
    )
