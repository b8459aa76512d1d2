"""Make lossless uint8 packs of VTAB-1K's tasks (``petl_core.data.array_pack``): one folder a task, whole or not there.

A task's source is read twice. The first time only the heads of its images are looked at: numbers, sizes, classes and
space are known, and wrong ones refused, before anything is written. Images keep their size if all of a task have one;
otherwise they are resized to a square, as ``petl_core.data.decode`` does it. Tasks that are there already are left
alone, so the same command goes on where it was stopped. Nothing here needs torch.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from petl_core.data import array_pack
from petl_core.data.decode import open_image, prefetched, to_rgb, to_square
from petl_core.data.vtab import LISTS, VTAB_SIZES
from petl_core.utils import UserError
from petl_make import command_line, say
from petl_make.vtab.check import tasks_in
from petl_make.vtab.look import LOOKED_AT, STEPS, Look, blockiness, kind_of
from petl_make.vtab.sources import Encoded, FolderSource, HubSource, Source, TfdsSource, package
from petl_make.vtab.tasks import TASKS, find

SIZE = 224
EXAMPLES = (
    "--out vtab1k                                                all tasks, through tensorflow-datasets",
    "--out vtab1k --source hf --task svhn dtd                    two of them, from the Hugging Face Hub",
    "--out packs --source folder --data-dir vtab_processed       what somebody else has processed",
    "--out vtab1k --verify                                       compare every byte with the checksums",
)


@dataclass
class Survey:
    """What the first reading of a task found: what its images are like, their shapes, and whether all are grey."""

    look: Look
    shapes: set[tuple[int, int]] = field(default_factory=set)  # (width, height)
    grey: bool = True

    @property
    def resize(self) -> bool:
        return len(self.shapes) > 1


def survey(name: str, source: Source) -> Survey:
    """Read the head of every image. UserError where a label or the classes are not the task's, or an image is bad."""
    count = len(source.classes)
    if name in VTAB_SIZES and count != VTAB_SIZES[name].classes:
        raise UserError(f"{name}: {count} classes; VTAB-1K's has {VTAB_SIZES[name].classes}")
    found = Survey(Look(name, count))
    for part in LISTS:
        labels = []
        for sample in source.part(part):
            if not 0 <= sample.label < count:
                raise UserError(f"{name}: {sample.name} has the label {sample.label}; they go from 0 to {count - 1}")
            with open_image(sample.path, sample.content, pixels=False) as image:
                found.shapes.add(image.size)
                found.grey &= image.mode in ("1", "L") and "transparency" not in image.info
                found.look.formats[kind_of(image, sample.path, sample.content)] += 1
            labels.append(sample.label)
        found.look.count(part, labels)
    looked_at = itertools.islice(source.part("train"), LOOKED_AT)
    found.look.blockiness = blockiness(np.asarray(opened(sample), dtype=np.uint8) for sample in looked_at)
    return found


def opened(sample: Encoded) -> Image.Image:
    """The decoded image, in RGB."""
    with open_image(sample.path, sample.content) as image:
        return to_rgb(image)


def pixels(sample: Encoded, *, grey: bool, size: int | None, binary: bool) -> np.ndarray:
    """uint8 (height, width, 1 or 3): in its own size, or in a square of ``size``; ``binary`` images of 0 and 1 are
    stretched to 0 and 255."""
    picture = opened(sample)
    array = np.asarray(picture, dtype=np.uint8) if size is None else to_square(picture, size).transpose(1, 2, 0)
    array = array[:, :, :1] if grey else array
    return array * np.uint8(255) if binary and array.max() <= 1 else array


def in_order(samples: Iterable[Encoded], work: Callable[[Encoded], np.ndarray]) -> Iterator[array_pack.Sample]:
    """Samples as a pack takes them, decoded by a few threads, a few at a time."""
    return ((array, sample.label, sample.name) for sample, array in prefetched(samples, work))


def prepare(name: str, source: Source, out: Path, size: int = SIZE, *, partial: bool = False) -> str:
    """Write the pack ``out``/``name``; returns a line about it.

    UserError where the source is not the task; with ``partial`` it may have other numbers of images."""
    start = time.perf_counter()
    found = survey(name, source)
    look = found.look
    wrong = look.wrong_counts({part: part for part in LISTS}) if name in TASKS else []
    if wrong and not partial:
        raise UserError(f"{'; '.join(wrong)}. Complete the source, or pack what there is with --partial")
    width, height = (size, size) if found.resize else next(iter(found.shapes))
    channels, side = 1 if found.grey else 3, size if found.resize else None
    array_pack.demand_space(out, sum(look.counts.values()) * width * height * channels)
    meta: dict[str, Any] = {
        "task": name,
        "classes": list(source.classes),
        "counts": look.counts,
        **source.about(),
        "formats": dict(look.formats),
        STEPS: None if np.isnan(look.blockiness) else round(look.blockiness, 4),
        "resized_to": side,
        "resizing": f"bicubic to {size} x {size}, proportions not kept" if side else "none",
        "decoded_by": f"Pillow {PIL.__version__}",
    }
    binary = name in TASKS and TASKS[name].binary
    work = functools.partial(pixels, grey=found.grey, size=side, binary=binary)
    array_pack.write(out / name, {part: in_order(source.part(part), work) for part in LISTS}, meta)
    shape = f"{width} x {height}{' grey' if found.grey else ''}{' (resized)' if side else ''}"
    parts = " + ".join(f"{count:,}" for count in look.counts.values())
    megabytes = sum(path.stat().st_size for path in (out / name).iterdir()) / 1e6
    took = f"{megabytes:,.0f} MB, {time.perf_counter() - start:.0f} s"
    line = f"{name}: {parts} images, {look.classes} classes, {shape}, from {look.formats_text()}; {took}"
    if look.lossy_copy:
        wrong.insert(0, "the images went through JPEG, VTAB-1K's did not: accuracies are not comparable")
    return "\n  CAUTION  ".join([line, *wrong])


def _sources(options: argparse.Namespace, out: Path) -> dict[str, Callable[[], Source]]:
    """How to open the source of each task asked for, by its name."""
    if options.source == "folder":
        if not options.data_dir:
            raise UserError("--source folder needs --data-dir, the folder with the processed tasks")
        folders = {folder.name: folder for folder in tasks_in(options.data_dir)}
        if unknown := [name for name in options.task or () if name not in folders]:
            raise UserError(f"{options.data_dir} has no task {unknown[0]!r}; it has {', '.join(folders)}")
        return {name: functools.partial(FolderSource, folders[name]) for name in options.task or folders}
    tasks = {name: find(name) for name in options.task or TASKS}
    if options.source == "tfds":
        return {name: functools.partial(TfdsSource, name, options.data_dir) for name in tasks}
    repositories = {name: task.hub for name, task in tasks.items()}
    for text in options.hf_repo:
        name, _, repository = text.partition("=")
        if not repository:
            raise UserError(f"--hf-repo got {text!r}; write TASK=REPOSITORY, such as svhn=clip-benchmark/wds_vtab-svhn")
        find(name)
        repositories[name] = repository
    return {name: functools.partial(HubSource, name, repositories[name], options.data_dir, out) for name in tasks}


def _verify(out: Path, names: Sequence[str] | None) -> int:
    folders = [out / name for name in names] if names else sorted(p.parent for p in out.glob(f"*/{array_pack.INDEX}"))
    if not folders:
        raise UserError(f"there are no packs in {out} to verify")
    bad = 0
    for folder in folders:
        try:
            array_pack.verify(folder)
            say(f"{folder.name}: every checksum is right")
        except UserError as error:
            bad += 1
            say(f"{folder.name}: {error}")
    return int(bad > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make lossless uint8 packs of VTAB-1K's tasks; 1 if one of them could not be made."""
    parser = command_line("vtab", main.__doc__, *EXAMPLES)
    parser.add_argument("--out", type=Path, required=True, help="the folder for the packs, one folder a task")
    parser.add_argument("--task", nargs="+", action="extend", metavar="NAME", help="only these tasks (default: all)")
    parser.add_argument("--source", choices=["tfds", "hf", "folder"], default="tfds", help="default: tfds")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="tfds: its data_dir; hf: the cache; folder: the tasks' folder"
    )
    parser.add_argument("--size", type=int, default=SIZE, help="side of images that differ in size (default: 224)")
    parser.add_argument("--hf-repo", action="append", default=[], metavar="TASK=REPOSITORY", help="another copy for hf")
    parser.add_argument("--partial", action="store_true", help="pack a task though it has other numbers of images")
    parser.add_argument("--verify", action="store_true", help="make nothing; compare the packs with their checksums")
    options = parser.parse_args(arguments)
    if not 1 <= options.size <= 4096:
        raise UserError(f"--size is {options.size}; it must be from 1 to 4096 pixels")
    out = options.out.expanduser()
    if options.verify:
        return _verify(out, options.task)
    if options.source != "folder":
        package("tensorflow_datasets" if options.source == "tfds" else "datasets")
    sources = _sources(options, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from error
    failed = _make(sources, out, options.size, partial=options.partial)
    absent = f"; not: {', '.join(failed)}" if failed else ""
    print(f"{len(sources) - len(failed)} of {len(sources)} tasks are in {out}{absent}")
    if options.source == "hf":
        print("The Hub's copies have an order of their own: training images are not always those of VTAB-1K.")
    return int(bool(failed))


def _make(sources: dict[str, Callable[[], Source]], out: Path, size: int, *, partial: bool) -> list[str]:
    """Make the packs that are not there yet, printing a line about each; returns the tasks that could not be made."""
    failed = []
    for name, source in sources.items():
        try:
            if array_pack.is_pack(out / name):
                array_pack.read(out / name)
                say(f"{name}: is there already")
            else:
                say(prepare(name, source(), out, size, partial=partial))
        except UserError as error:
            failed.append(name)
            print(f"{name}: FAILED  {error}", file=sys.stderr, flush=True)
    return failed
