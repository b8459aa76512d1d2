"""Image files to uint8 arrays: any mode to RGB, deep pictures by one scaling, turned upright, resized to a square; a
damaged file is an error, not noise.

How a picture is prepared is a choice that a task keeps (``Preparation``). There are three ways to a square, all
bicubic. "squash": whole, without regard to the proportions (VTAB-1K in the study). "crop": until the short side is
256/224 of the square's, then the centre is cut out (the study's many-shot tasks; what most ImageNet models were tested
with). "pad": until the long side fits, on grey.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from petl_core.utils import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
RESIZES = ("crop", "pad", "squash")
SHORT_SIDE = 256 / 224  # of the square's side
GREY = (128, 128, 128)  # what is around a padded picture
NOT_DRAWN = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}  # Pillow knows their heads; other programs must draw them
LARGE, LARGEST = 16_000_000, 250_000_000  # pixels: above the first one at a time, above the second not at all
REPAIR = "replace the file or take it out of the data set"
MOST_THREADS = 8  # each of which may hold LARGE pixels twice
AHEAD = 64  # items that are worked on before they are asked for; the most that is held in memory
ORIENTATION = 0x0112  # the EXIF tag

Item = TypeVar("Item")
Result = TypeVar("Result")
_one_large = threading.RLock()
_pillows_limit = threading.Lock()
warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd files, thousands of times; what is wrong is said once


@dataclass(frozen=True)
class Preparation:
    """How a task's pictures become squares.

    ``upright``: turned by their EXIF tag, and large JPEG files decoded at a smaller scale. ``integers``, ``floats``:
    the values of deep pictures (16 or 32 bits) that become 0 and 255; None: the range of a picture's type."""

    resize: str = "squash"
    upright: bool = False
    integers: tuple[float, float] | None = None
    floats: tuple[float, float] | None = None

    def square(self, path: Path, size: int) -> np.ndarray:
        """One file as uint8 (3, size, size). UserError naming it where it cannot be read."""
        with naming(path), opened(path) as image:
            return self.squared(image, size)

    def squared(self, image: Image.Image, size: int) -> np.ndarray:
        """A picture as uint8 (3, size, size); it may be closed afterwards."""
        at_scale(image, 2 * size if self.upright else None)
        with alone(image):
            image.load()
            small = reduced(image) if self.upright else image
            picture = to_rgb(small, self.integers, self.floats)
            square = to_square(upright(picture, image) if self.upright else picture, size, self.resize)
            if small is not image:
                image.close()
            return square


PLAIN, CROPPED = Preparation(), Preparation("crop")  # the study's ways


@functools.cache
def formats() -> tuple[str, ...]:
    """What the installed Pillow reads by itself, and HEIC where the package pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    except ImportError:
        pass
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DRAWN)


def deep(mode: str) -> bool:
    """Has a picture of this mode more than 8 bits a value?"""
    return mode.startswith(("I", "F"))


def to_rgb(
    image: Image.Image, integers: tuple[float, float] | None = None, floats: tuple[float, float] | None = None
) -> Image.Image:
    """RGB from any mode. Grey is repeated; transparency is laid on white; deep pictures are scaled from the range
    given or, without one, from that of their type: 0 to 65535, and 0 to 1 or to 255 for floats.

    UserError where values are outside that."""
    if image.mode == "RGB":
        return image
    image = reduced(image)
    if deep(image.mode):
        values = np.asarray(image, dtype=np.float64)
        low, high = (floats if image.mode == "F" else integers) or _range(values, image.mode)
        values = np.clip((values - low) / max(high - low, 1e-12) * 255.0, 0, 255)
        return Image.fromarray(np.round(values).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _range(values: np.ndarray, mode: str) -> tuple[float, float]:
    """What a deep picture's type would hold."""
    highest = 65535.0 if mode.startswith("I") else 1.0 if values.max() <= 1 else 255.0
    if not (values.min() >= 0 and values.max() <= highest):
        raise UserError(f"it holds values from {values.min():g} to {values.max():g}, not from 0 to {highest:g}")
    return 0.0, highest


def reduced(image: Image.Image) -> Image.Image:
    """A very large picture at a whole fraction of its size, before copies of it are made; any other as it is."""
    if image.size[0] * image.size[1] <= LARGE:
        return image
    if image.mode.startswith("I;16"):
        image = image.convert("I")
    elif image.mode in ("1", "P", "PA"):
        image = image.convert("L" if image.mode == "1" else "RGBA" if "transparency" in image.info else "RGB")
    factor = max(1, min(image.size) // 2048)
    if image.mode in ("LA", "RGBA"):  # Pillow would make a copy of the whole first
        return Image.merge(image.mode, [band.reduce(factor) for band in map(image.getchannel, image.getbands())])
    return image.reduce(factor)


def open_image(path: Path, content: bytes | None = None, *, pixels: bool = True) -> Image.Image:
    """One file, or its ``content`` where that is at hand, read whole or, without ``pixels``, its head alone.

    UserError naming ``path`` if it is missing, no image, too large, or damaged."""
    with naming(path):
        image = opened(path if content is None else io.BytesIO(content))
        if pixels:
            at_scale(image, None)
            image.load()
        return image


def at_scale(image: Image.Image, draft: int | None) -> None:
    """Have an opened JPEG decoded at the smallest scale at which both sides have ``draft`` pixels (None: whole).
    UserError where the picture is too large to decode."""
    if draft:
        image.draft(None, (draft, draft))  # keeps the mode
    width, height = image.size
    if width * height > LARGEST:
        raise UserError(
            f"{width} x {height} pixels are too many to hold in memory (the limit is {LARGEST / 1e6:.0f} megapixels); "
            "save it smaller, or as JPEG, which can be read at a smaller scale"
        )


@contextlib.contextmanager
def alone(image: Image.Image) -> Iterator[None]:
    """Within this, no other large picture is in memory; afterwards the system has it back, where glibc can do that."""
    if image.size[0] * image.size[1] <= LARGE:
        yield
        return
    with _one_large:
        yield
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """UserError that names the file for whatever goes wrong inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"image {path}: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"image {path} does not exist; {REPAIR}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image that Pillow can read; {REPAIR}") from error
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UserError(f"image {path} is damaged or truncated ({error}); {REPAIR}") from error


def opened(source: Path | BinaryIO) -> Image.Image:
    """Pillow's ``open``, which looks at contents and not at suffixes, with this file's limit instead of its own."""
    try:
        return Image.open(source, formats=formats())
    except Image.DecompressionBombError:
        with _pillows_limit:
            held, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(source, formats=formats())
            finally:
                Image.MAX_IMAGE_PIXELS = held


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none that can be read. Pillow turns TIFF files by itself."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make the picture a bad one
        return 1
    return found if found in range(1, 9) else 1


def upright(picture: Image.Image, source: Image.Image) -> Image.Image:
    """A loaded picture turned as the EXIF tag of the image that it was made of says."""
    tag = orientation(source)
    if tag == 1:
        return picture
    picture.getexif()[ORIENTATION] = tag
    return ImageOps.exif_transpose(picture)


def to_square(picture: Image.Image, size: int, resize: str = "squash") -> np.ndarray:
    """An RGB picture as uint8 (3, size, size), resized bicubically in one of three ways (see above).

    The crop is torchvision's ``Resize(256)`` and ``CenterCrop(224)`` to the bit, and the same in proportion elsewhere.
    """
    width = height = size
    if resize == "pad":
        width, height = (max(1, round(size * length / max(picture.size))) for length in picture.size)
    elif resize == "crop":
        short = round(size * SHORT_SIDE)
        picture = _middle(picture, short)
        width, height = (int(short * length / min(picture.size)) for length in picture.size)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    if resize == "pad":
        ground = Image.new("RGB", (size, size), GREY)
        ground.paste(picture, (-left, -top))
        picture = ground
    elif resize == "crop":
        picture = picture.crop((left, top, left + size, top + size))
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)


def _middle(picture: Image.Image, short: int) -> Image.Image:
    """A strip so long that it would not fit in memory once its short side is resized, cut to its middle."""
    length, width = max(picture.size), min(picture.size)
    if short * short * length / width <= LARGE:
        return picture
    left, top = ((side - min(side, 2 * width)) // 2 for side in picture.size)
    return picture.crop((left, top, picture.size[0] - left, picture.size[1] - top))


def decode_image(path: Path, size: int, prepare: Preparation = PLAIN) -> np.ndarray:
    """One file as uint8 (3, size, size); see ``Preparation``."""
    return prepare.square(path, size)


def refuse_truncated() -> None:
    """UserError where Pillow has been told to fill up what is missing of an image."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UserError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so damaged images would pass as good; set it to False"
        )


def prefetched(
    items: Iterable[Item], work: Callable[[Item], Result], *, threads: int | None = None, ahead: int = AHEAD
) -> Iterator[tuple[Item, Result]]:
    """Each item with ``work(item)``, in order, done by a few threads while the caller uses those before it."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads or min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def decode_images(paths: Sequence[Path], size: int, prepare: Preparation = PLAIN) -> np.ndarray:
    """Files as uint8 (n, 3, size, size). The first bad file, in order, is reported."""
    refuse_truncated()
    images = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    for row, (_, image) in zip(images, prefetched(paths, lambda path: prepare.square(path, size)), strict=True):
        row[:] = image
    return images
