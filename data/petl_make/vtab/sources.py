"""Where VTAB-1K's images come from: a processed folder, tensorflow-datasets, or the Hugging Face Hub.

Each source gives the three parts, "train", "val" and "test", as streams of files that are still encoded (JPEG, PNG,
WebP), so that one place decodes them all, in the same way as the images of a folder. A sample is named by its path in
the folder, or by split and position in the source, such as "train/002754".
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from petl_core.data.vtab import TRAIN, VAL, VTAB_SIZES, class_names, read_lists
from petl_core.utils import UserError
from petl_make.vtab.tasks import TASKS, Cut, VtabTask

INSTALL = "make data-env makes an environment for it in the checkout: .venv-data/bin/python -m petl_make vtab"


def package(name: str) -> ModuleType:
    """A package of the extra ``data``; UserError that says how to get it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on the processor
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} cannot be loaded ({error}); {INSTALL}") from error


@dataclass(frozen=True)
class Encoded:
    """An image as it is stored: a file, or its content with ``path`` to name it in messages."""

    name: str
    label: int
    path: Path
    content: bytes | None = None


class Source(Protocol):
    """What ``prepare`` asks of a source of one task."""

    classes: tuple[str, ...]

    def part(self, name: str) -> Iterator[Encoded]:
        """The samples of "train", "val" or "test", in order; each call begins anew."""

    def about(self) -> dict[str, Any]:
        """What a pack keeps of its origin."""


def class_names_of(task: str, label: Any) -> tuple[str, ...]:
    """The task's class names, or those of the source's feature ``label`` if there are as many as classes and they say
    something, else "class 0", "class 1", ..."""
    names = TASKS[task].names or tuple(getattr(label, "names", None) or ())
    count = VTAB_SIZES[task].classes
    telling = len(names) == count and not all(name.isdigit() for name in names)
    return names if telling else tuple(f"class {number}" for number in range(count))


class FolderSource:
    """A task in the study's processed format: images and the lists train800.txt, val200.txt and test.txt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lists = read_lists(folder)
        self.classes = class_names(folder, np.array([label for part in self._lists.values() for _, label in part]))

    def part(self, name: str) -> Iterator[Encoded]:
        for file, label in self._lists[name]:
            yield Encoded(file, label, self.folder / file)

    def about(self) -> dict[str, Any]:
        return {"source": "folder", "folder": self.folder.name}


class TfdsSource:
    """A task through tensorflow-datasets, downloaded and prepared in ``data_dir`` if it is not there yet."""

    def __init__(self, name: str, data_dir: str | None) -> None:
        self._tfds, self._task = package("tensorflow_datasets"), TASKS[name]
        try:
            self._builder = self._tfds.builder(self._task.tfds, data_dir=data_dir)
            self._builder.download_and_prepare()
        except Exception as error:  # of the network, the disk, or a download that has to be made by hand
            raise UserError(_advice(self._task, data_dir, error)) from error
        there = {split: about.num_examples for split, about in self._builder.info.splits.items()}
        for cut in self._task.cuts.values():
            if cut.total is not None and there.get(cut.split, cut.total) != cut.total:
                raise UserError(
                    f"{self._builder.info.full_name} has {there[cut.split]:,} images in {cut.split}; VTAB's parts are "
                    f"cut from {cut.total:,}. Remove {self._builder.data_dir} and prepare it again, or use another "
                    "source"
                )
        self.classes = class_names_of(name, dict(self._builder.info.features.items()).get("label"))

    def part(self, name: str) -> Iterator[Encoded]:
        tfds, cut = self._tfds, self._task.cuts[name]
        decoders = tfds.decode.PartialDecoding(
            {"image": True, **self._task.needs}, decoders={"image": tfds.decode.SkipDecoding()}
        )
        in_order = tfds.ReadConfig(interleave_cycle_length=1)
        examples = self._builder.as_dataset(
            split=str(cut), decoders=decoders, read_config=in_order, shuffle_files=False
        )
        for number, example in enumerate(tfds.as_numpy(examples), start=cut.start):
            sample = f"{cut.split}/{number:06d}"
            path = Path(self._builder.info.full_name, sample)
            yield Encoded(sample, self._task.label(example), path, example["image"])

    def about(self) -> dict[str, Any]:
        parts = {name: str(cut) for name, cut in self._task.cuts.items()}
        builder = {"builder": self._builder.info.full_name, "parts": parts}
        return {"source": "tfds", **builder, "tensorflow_datasets": self._tfds.__version__}


def _advice(task: VtabTask, data_dir: str | None, error: Exception) -> str:
    place = Path(data_dir or "~/tensorflow_datasets").expanduser()
    said = re.sub(r"\s+", " ", str(error)).strip()[:400]
    if isinstance(error, ImportError):
        todo = INSTALL
    elif "manual" in said.lower():
        todo = (
            f"this data set must be downloaded by hand: put the files into {place / 'downloads' / 'manual'} (see "
            f"https://www.tensorflow.org/datasets/catalog/{re.split('[:/]', task.tfds)[0]}) and start again"
        )
    else:
        todo = (
            "check the network and start again, what was downloaded is kept; or prepare it on a machine with a network "
            f"and copy its folder {place} here (--data-dir)"
        )
    return f"tensorflow-datasets could not get {task.tfds} ({type(error).__name__}: {said}); {todo}"


class HubSource:
    """A task from a copy on the Hugging Face Hub: ``repo`` is its name, perhaps with "@revision", or a local folder.

    The first 800 rows of its train split, the first 200 of its validation split (of the rest of train where there is
    none), and its test split. Numbers are checked, but the order is the copy's own, so the training images are not
    always VTAB's. What is read is kept in an unnamed temporary file in ``scratch``, so that it is fetched once.
    """

    def __init__(self, task: str, repo: str, cache: str | None, scratch: Path) -> None:
        datasets = package("datasets")
        self._repo, self._version, self._scratch = repo, datasets.__version__, scratch
        name, _, revision = repo.partition("@")
        try:
            splits = datasets.load_dataset(name, revision=revision or None, cache_dir=cache, streaming=True)
            self._splits = {split: rows.cast_column(*_undecoded(rows)) for split, rows in splits.items()}
        except Exception as error:  # of the network, of the Hub, of a repository that is laid out in another way
            raise UserError(
                f"datasets could not open {repo} ({type(error).__name__}: {error}); check its name and the network, or "
                "name another copy: --hf-repo TASK=REPOSITORY"
            ) from error
        if missing := {"train", "test"} - set(self._splits):
            raise UserError(f"{repo} has no split {' and '.join(sorted(missing))}; name another copy with --hf-repo")
        self._label = TASKS[task].hub_label
        self._cuts = {"train": Cut("train", 0, TRAIN), "val": Cut("train", TRAIN, TRAIN + VAL), "test": Cut("test")}
        for validation in {"validation", "val"} & set(self._splits):
            self._cuts["val"] = Cut(validation, 0, VAL)
        label = self._splits["train"].features[_label_column(self._splits["train"], repo)]
        self.classes = class_names_of(task, label)
        self._fetched: dict[str, Any] = {}

    def part(self, name: str) -> Iterator[Encoded]:
        if name not in self._fetched:
            self._fetched[name] = self._fetch(name)
        file, entries = self._fetched[name]
        cut = self._cuts[name]
        for number, (start, stop, label) in enumerate(entries, start=cut.start):
            sample = f"{cut.split}/{number:06d}"
            file.seek(start)
            yield Encoded(sample, label, Path(self._repo, sample), file.read(stop - start))

    def _fetch(self, name: str) -> tuple[Any, list[tuple[int, int, int]]]:
        cut = self._cuts[name]
        rows = self._splits[cut.split]
        image, label = _image_column(rows), _label_column(rows, self._repo)
        file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115  it is read again until the source goes
        entries: list[tuple[int, int, int]] = []
        try:
            for row in itertools.islice(rows, cut.start, cut.stop):
                start = file.tell()
                file.write(row[image]["bytes"] or Path(row[image]["path"]).read_bytes())
                entries.append((start, file.tell(), self._label(row[label])))
        except Exception as error:
            raise UserError(f"{self._repo}, split {cut.split}: {type(error).__name__}: {error}; start again") from error
        return file, entries

    def about(self) -> dict[str, Any]:
        parts = {name: str(cut) for name, cut in self._cuts.items()}
        return {"source": "hf", "repository": self._repo, "parts": parts, "datasets": self._version}


def _image_column(rows: Any) -> str:
    return next(name for name, kind in rows.features.items() if type(kind).__name__ == "Image")


def _undecoded(rows: Any) -> tuple[str, Any]:
    return _image_column(rows), package("datasets").Image(decode=False)


def _label_column(rows: Any, repo: str) -> str:
    for name in ("label", "cls", "fine_label"):
        if name in rows.features:
            return name
    raise UserError(f"{repo} has the columns {', '.join(rows.features)}, none of them label, cls or fine_label")
