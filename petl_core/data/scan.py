"""Every file of a set opened once: what its head says, whether its pixels can be read, and two hashes of them.

JPEG files are decoded at the smallest scale that shows ``LOOKED_AT`` pixels, so that a photograph of 12 megapixels
takes 20 ms. What was found is kept in the user's cache under the files' names, sizes and times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import math
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import imagehash
import numpy as np
import PIL
from PIL import Image, TiffImagePlugin

from petl_core.data.decode import (
    alone,
    at_scale,
    deep,
    formats,
    opened,
    orientation,
    prefetched,
    reduced,
    refuse_truncated,
    to_rgb,
    upright,
)
from petl_core.data.walk import File
from petl_core.utils import UserError, cache_folder, progress_bar, write_atomic

FORMAT = 1
LOOKED_AT = 128  # pixels of both sides, at least, of what is hashed
CHUNK = 32  # files that a thread does in a row
COLOURS = 8  # pixels along a side of the small picture that near duplicates must share
NO_PICTURE = "its content is no picture"
PICTURE, UNREADABLE, OTHER = "picture", "unreadable", "other"
OTHER_PACKAGES = {  # what reads formats that Pillow does not
    **dict.fromkeys((".heic", ".heif", ".hif"), "pillow-heif"),
    **dict.fromkeys((".nef", ".cr2", ".cr3", ".dng", ".arw", ".raf", ".orf", ".rw2"), "rawpy"),
    ".jxl": "pillow-jxl-plugin",
    ".dcm": "pydicom",
    ".svg": "cairosvg",
    ".exr": "openexr",
    ".eps": "ghostscript",
}
MADE_DATE, EXIF_BLOCK = 0x9003, 0x8769  # EXIF tags
BANDS, COLOUR_KIND, EXTRA = 277, 262, 338  # TIFF tags: bands, what they are, what those beyond the colours are


@dataclass(frozen=True)
class Look:
    """One file. ``kind`` and, where it is no picture, ``why``. ``width`` and ``height`` are upright; ``low`` to
    ``high`` the values of a deep picture; ``taken`` when its EXIF block says so (seconds), else not a number."""

    kind: str = PICTURE
    why: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False
    frames: int = 1
    low: float = math.nan
    high: float = math.nan
    half_clear: bool = False  # most of the fourth band is neither clear nor opaque
    cut_to_8: bool = False  # 16-bit colours, of which Pillow keeps the upper half
    taken: float = math.nan
    pixels: int = 0  # a digest of the RGB pixels
    hash: int = 0  # the perceptual hash
    colours: bytes = bytes(3 * COLOURS * COLOURS)  # a small RGB picture


@dataclass(frozen=True)
class Scan:
    """The looks at n files, a column each: ``scan["width"]`` is (n,); ``colours`` (n, 192); ``seconds`` it took."""

    columns: dict[str, np.ndarray]
    seconds: float

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]


def look(path: Path, size: int) -> Look:
    """Open one file of ``size`` bytes and read it whole; whatever is wrong with it becomes part of the answer."""
    if not size:
        return Look(UNREADABLE, "it is empty")
    try:
        with open(path, "rb") as file:
            if package := _foreign(path.suffix.lower(), file.read(12)):
                return Look(OTHER, f"needs the package {package}")
            file.seek(0)
            return _of(opened(file))
    except PIL.UnidentifiedImageError:
        return Look(UNREADABLE if path.suffix.lower() in _suffixes() else OTHER, NO_PICTURE)
    except UserError as error:
        return Look(UNREADABLE, str(error))
    except Exception as error:
        refused = isinstance(error, OSError) and error.strerror  # by the system, not by Pillow
        return Look(UNREADABLE, f"cannot be opened: {refused}" if refused else f"damaged or cut short: {error}")


def _foreign(suffix: str, start: bytes) -> str:
    """The package that reads a file which Pillow cannot, "" for others; by its suffix, and HEIC by its first bytes."""
    package = OTHER_PACKAGES.get(suffix, "")
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        package = "pillow-heif"
    return "" if package == "pillow-heif" and "HEIF" in formats() else package


def is_picture_name(name: str) -> bool:
    """Does a name end as those of pictures do?"""
    suffix = PurePath(name).suffix.lower()
    return suffix in _suffixes() or suffix in OTHER_PACKAGES


@functools.cache
def _suffixes() -> frozenset[str]:
    """Suffixes under which a picture is expected."""
    readable = formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def _of(image: Image.Image) -> Look:
    """What an opened image shows."""
    width, height = image.size
    raw_mode, tiff = str(getattr(image, "tile", ())), isinstance(image, TiffImagePlugin.TiffImageFile)
    turned_by_pillow = tiff and orientation(image) != 1
    at_scale(image, LOOKED_AT)
    about: dict[str, Any] = {"format": image.format or "", "mode": image.mode}
    with alone(image):
        image.load()
        half_clear, small = _half_clear(image), reduced(image)
        low = high = math.nan
        if deep(image.mode):
            values = np.asarray(small)
            low, high = float(values.min()), float(values.max())
            if not math.isfinite(low + high):
                return Look(UNREADABLE, "it holds values that are not finite", **about)
        if tiff and (bands := _strange_bands(image)):
            return Look(UNREADABLE, f"it has {bands} bands, which are not colours and transparency", **about)
        picture = upright(to_rgb(small, (low, high), (low, high)) if deep(image.mode) else to_rgb(small), image)
        turned, frames, taken = turned_by_pillow or orientation(image) != 1, _frames(image), _taken(image)
        if small is not image:
            image.close()
    if (width > height) != (picture.size[0] > picture.size[1]):
        width, height = height, width
    digest = hashlib.blake2b(repr((picture.size, low, high)).encode(), digest_size=8)
    digest.update(picture.tobytes())
    return Look(
        width=width,
        height=height,
        turned=turned,
        frames=frames,
        low=low,
        high=high,
        half_clear=half_clear,
        cut_to_8=about["mode"].startswith("RGB") and ";16" in raw_mode,
        taken=taken,
        pixels=int.from_bytes(digest.digest(), "big"),
        hash=int.from_bytes(np.packbits(imagehash.phash(picture).hash).tobytes(), "big"),
        colours=picture.resize((COLOURS, COLOURS), Image.Resampling.BOX).tobytes(),
        **about,
    )


def _strange_bands(image: Any) -> int:
    """How many bands a TIFF file has, where these are not colours and perhaps transparency; else 0."""
    bands, kind = image.tag_v2.get(BANDS, 1), image.tag_v2.get(COLOUR_KIND, 1)
    colours = {0: 1, 1: 1, 3: 1, 5: 4}.get(kind, 3)
    clear = bands == colours + 1 and image.tag_v2.get(EXTRA, (0,))[0] in (1, 2)
    return 0 if bands <= colours or clear else bands


def _half_clear(image: Image.Image) -> bool:
    """Is most of the picture partly transparent? Then its fourth band probably is something else."""
    if image.mode != "RGBA":
        return False
    counts = image.getchannel("A").histogram()
    return 2 * (counts[0] + counts[255]) < sum(counts)


def _frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # what follows the first frame is damaged, and is not used
        return 1


def _taken(image: Image.Image) -> float:
    """When a camera made the picture, in seconds; not a number where it does not say so."""
    try:
        text = image.getexif().get_ifd(EXIF_BLOCK).get(MADE_DATE, "")
        return datetime.datetime.strptime(text, "%Y:%m:%d %H:%M:%S").timestamp() if text else math.nan
    except Exception:
        return math.nan


def scan(root: Path, files: Sequence[File]) -> Scan:
    """Look at each of the files below ``root``, or read from the cache what an earlier call saw."""
    refuse_truncated()
    total = hashlib.blake2b(f"{FORMAT} {PIL.__version__} {formats()} {root}".encode(errors="replace"), digest_size=12)
    for file in files:
        total.update(f"{file.parts} {file.size} {file.changed}\n".encode(errors="backslashreplace"))
    path = cache_folder() / "scans" / f"{total.hexdigest()}.npz"
    try:
        with np.load(path, allow_pickle=False) as held:
            columns = dict(held)
            return Scan(columns, float(columns.pop("seconds")))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass

    def of_chunk(chunk: tuple[File, ...]) -> list[Look]:
        return [look(root.joinpath(*file.parts), file.size) for file in chunk]

    started = time.monotonic()
    chunks = progress_bar([tuple(files[i : i + CHUNK]) for i in range(0, len(files), CHUNK)], "looking at the pictures")
    looks = [found for _, part in prefetched(chunks, of_chunk) for found in part]
    columns = {f.name: np.array([getattr(found, f.name) for found in looks]) for f in dataclasses.fields(Look)}
    colours = np.frombuffer(b"".join(found.colours for found in looks), dtype=np.uint8)
    columns["colours"] = colours.reshape(len(looks), 3 * COLOURS * COLOURS)
    columns |= {name: np.array([getattr(found, name) for found in looks], np.uint64) for name in ("pixels", "hash")}
    seconds = time.monotonic() - started
    with contextlib.suppress(UserError):  # without a cache the next call looks again
        write_atomic(path, functools.partial(np.savez, seconds=seconds, **columns), make_folder=True)
    return Scan(columns, seconds)
