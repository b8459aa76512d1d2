"""Make ten sets of photographs and PACS, as the study's profile photographs reads them below PETL_DATA.

A set is fetched from a public repository at a pinned commit, drawn and resized by its rule, checked, and only then
takes its name; sets that are there already are checked and left alone, so the same command goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL
from PIL import Image, features

from petl_core.data.decode import prefetched, refuse_truncated
from petl_core.data.vtab import LISTS
from petl_core.utils import UserError, progress_bar
from petl_make import command_line, say
from petl_make.photographs import items, origins, table, weights
from petl_make.photographs.check import FACTS, checked, demand, told
from petl_make.photographs.table import Origin, PhotoSet

EXAMPLES = (
    "--out my_data                                all of them: 1.4 GB are fetched, about 75 MB kept",
    "--out my_data --sets eurosat,sign_digits     two of them",
    "--out my_data --from downloads               from downloads/<set>/..., unpacked by hand",
    "--out my_data --sets none --weights          only the ViT-Ti's weights, where timm's hub is out of reach",
)
Picture = Callable[[], Image.Image]


def pictures(row: PhotoSet, tree: Path) -> tuple[dict[str, Picture], dict[str, str]]:
    """The images of a set by their new paths, and the text of its lists. ``UserError`` where counts are wrong."""
    if not row.inside:
        chosen = items.found_by(items.pacs, tree)
        return {path: items.item(file, 0)[0] for path, file in chosen.items()}, {}
    found = items.found_by(items.RULES[row.rule], tree)
    found = items.once(found) if row.once else found
    for part, count in zip((found.pool, found.test), row.candidates, strict=False):  # one where no test is stated
        demand(row, "images at the origin", len(part or ()), count)
    demand(row, "classes", len(found.names), row.classes)
    named: dict[str, Picture] = {}
    lines = {}
    for split, part in items.draw(found, row.parts).items():
        paths = [f"{row.inside}/{split}/{number:05d}.{row.suffix}" for number in range(len(part))]
        named |= {path: picture for path, (picture, _) in zip(paths, part, strict=True)}
        lines[split] = "".join(f"{path} {label}\n" for path, (_, label) in zip(paths, part, strict=True))
    texts = {file: lines[split] for split, file in zip(lines, LISTS.values(), strict=True)}
    joined = texts[LISTS["train"]] + texts[LISTS["val"]]
    return named, texts | {"train800val200.txt": joined, "labels.txt": "".join(f"{name}\n" for name in found.names)}


def encoded(row: PhotoSet, picture: Picture) -> bytes:
    """The file of an image: its longer side at most ``row.size``, as PNG or as JPEG at quality 92."""
    image = picture()
    if row.size is not None and max(image.size) > row.size:
        scale = row.size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if row.suffix == "png":
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def make_set(row: PhotoSet, tree: Path, scratch: Path, folder: Path) -> str:
    """Make a set of its origin's tree in ``scratch``, check it and move it to ``folder``; what is to be told of it."""
    named, texts = pictures(row, tree)
    made = scratch / "made"
    shutil.rmtree(made, ignore_errors=True)
    for parent in {made, *((made / path).parent for path in named)}:
        parent.mkdir(parents=True, exist_ok=True)
    done = prefetched(named.items(), lambda one: encoded(row, one[1]))
    for (path, _), content in progress_bar(done, row.name, total=len(named)):
        (made / path).write_bytes(content)
    for name, text in texts.items():
        (made / name).write_text(text, encoding="utf-8", newline="\n")
    found = checked(row, made)
    facts = {
        "set": row.name, "repository": row.url(), "commit": row.commit, "licence": row.licence, "note": row.note,
        "lists": found.lists, "files": found.files, "expected_files": row.files,
        "made_with": f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}",
    }  # fmt: skip
    (made / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8", newline="\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.rename(made, folder)
    return told(row, found)


@dataclass(frozen=True)
class Source:
    """Where origins come from: a folder of what was unpacked by hand, or else a server that git fetches from."""

    folder: Path | None = None
    server: str = table.SERVER
    patience: float = origins.PATIENCE


def look(origin: Origin, target: Path) -> str:
    """What is to be told of a set or the weights that are there; ``UserError`` where they are other ones."""
    if isinstance(origin, PhotoSet):
        return told(origin, checked(origin, target))
    return weights.look(target)


def obtain(origin: Origin, out: Path, source: Source) -> str:
    """Get an origin and make of it what belongs below ``out``, unless that is there; what is to be told of it."""
    target, started = origin.target(out), time.perf_counter()
    if target.exists():
        return f"there already; {look(origin, target)}"
    scratch = out / f".{origin.name}.part"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        if source.folder is not None:
            tree = origins.given(origin, source.folder)
        else:
            tree = origins.fetched(origin, scratch, source.server, source.patience)
        if isinstance(origin, PhotoSet):
            text = make_set(origin, tree, scratch, target)
        else:
            text = weights.write(tree, target)
        shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        reason = f"{error.strerror or error} ({error.filename})"
        raise UserError(f"cannot make {target}: {reason}; choose a folder that is writable and has space") from error
    finally:  # what was fetched whole stays for the next time
        for part in ("tree", "made"):
            shutil.rmtree(scratch / part, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty
            scratch.rmdir()
    return f"{text}; {time.perf_counter() - started:.0f} s"


def chosen(text: str | None, *, with_weights: bool) -> list[Origin]:
    """The origins that --sets and --weights name. ``UserError`` for a name that there is not."""
    names = list(table.SETS) if text is None else [name.strip() for name in text.split(",") if name.strip() != "none"]
    if unknown := [name for name in names if name not in table.SETS]:
        raise UserError(f"--sets got {unknown[0]!r}; the sets are {', '.join(table.SETS)} (or none)")
    return [*(table.SETS[name] for name in names), *([table.WEIGHTS] if with_weights else [])]


def announce(wanted: list[Origin], out: Path, source: Source) -> None:
    """Say before it starts what is fetched from where, how much it is, and under which licence."""
    missing = [origin for origin in wanted if not origin.target(out).exists()]
    for origin in missing:
        size = "" if source.folder else f"about {origin.megabytes} MB, "
        say(f"  {origin.name:<16}{size}{origin.url(source.server)} at {origin.commit[:12]}. {origin.licence}")
    if missing and source.folder is None:
        say(f"{sum(origin.megabytes for origin in missing):,} MB are to be fetched, one after the other.")


def main(arguments: Sequence[str]) -> int:
    """The command ``photographs``; 1 if a set could not be made."""
    parser = command_line("photographs", __doc__, *EXAMPLES)
    parser.add_argument("--out", type=Path, required=True, help="the folder that PETL_DATA will name")
    parser.add_argument("--sets", metavar="A,B", help=f"only these (all): {', '.join(table.SETS)}; or none")
    parser.add_argument(
        "--weights", action="store_true", help=f"also {table.WEIGHTS.place}, of a mirror without a licence"
    )
    parser.add_argument("--from", dest="folder", type=Path, help="fetch nothing: FOLDER/<set>/ holds what was unpacked")
    parser.add_argument("--mirror", default=table.SERVER, metavar="URL", help="a server with the same repositories")
    parser.add_argument("--patience", type=float, default=origins.PATIENCE, help="seconds a server may be silent")
    options = parser.parse_args(arguments)
    wanted = chosen(options.sets, with_weights=options.weights)
    out, folder = options.out.expanduser(), options.folder.expanduser() if options.folder else None
    if out.exists() and not out.is_dir():
        raise UserError(f"--out got {out}, which is a file; name a folder")
    if folder is None:
        origins.demand_git()
    elif not folder.is_dir():
        raise UserError(f"--from got {folder}, which is not a folder")
    refuse_truncated()
    source, failed = Source(folder, options.mirror, options.patience), []
    announce(wanted, out, source)
    for number, origin in enumerate(wanted, start=1):
        title = f"[{number} of {len(wanted)}] {origin.name}"
        try:
            say(f"{title}: {obtain(origin, out, source)}" + (f"\n    {origin.note}" if origin.note else ""))
        except UserError as error:
            failed.append(origin.name)
            print(f"{title}: FAILED  {error}", file=sys.stderr, flush=True)
    absent = f"; not: {', '.join(failed)}" if failed else ""
    say(f"{len(wanted) - len(failed)} of {len(wanted)} are in {out}{absent}. Use them with PETL_DATA={out}")
    if not table.WEIGHTS.target(out).exists():
        say("The ViT-Ti's weights come from timm's hub when they are used; where that is out of reach, add --weights.")
    return int(bool(failed))
