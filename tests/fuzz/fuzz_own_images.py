"""Random folders and lists: each must give a card and a task, or one clear error. Not part of the tests.

python tests/fuzz/fuzz_own_images.py 500          so many cases, from seed 0
python tests/fuzz/fuzz_own_images.py 1 --seed 137  one case again
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LIMIT_SECONDS, LIMIT_BYTES = 20, 2_000_000_000
NAMES = [
    *("cat", "dog", "Cat", "1", "10", "train", "Test", "VALID", "val", "test", "images", "data", ".hidden", "__MACOSX"),
    *(
        "a b,c",
        "café",
        "cafe\u0301",
        "고양이",
        "😀",
        "x" * 120,
        "<b>",
        "'q'",
        "a\nb",
        "?",
        "result",
        "records",
        "labels",
    ),
    *("training_set", "..x", " lead", "CON", "a;b", "-", "%s", "{0}", "\\", "caf\udce9"),
]
STEMS = ["im", "patient", "a_b", "001", "x.rf."]
SUFFIXES = [
    ".png",
    ".jpg",
    ".JPEG",
    ".webp",
    ".tif",
    ".gif",
    ".bmp",
    ".avif",
    ".heic",
    ".txt",
    "",
    ".csv",
    ".db",
    ".ppm",
]
FORMATS = ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF", "TGA", "PCX", "MPO"]
DEEP = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
MODES = ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F"]


@functools.cache
def pool() -> list[bytes]:
    """Pictures of many formats, modes, sizes and orientations; most are plain."""
    random = np.random.default_rng(0)
    return [_drawn(random, plain=i % 6 != 0) for i in range(2000)]


def _drawn(random: np.random.Generator, *, plain: bool = False) -> bytes:
    shape = (40, 40) if plain else [(40, 40), (1, 1), (3, 200), (64, 48), (300, 240), (8, 8)][random.integers(6)]
    mode = "RGB" if plain else MODES[random.integers(len(MODES))]
    form = "PNG" if plain else FORMATS[random.integers(len(FORMATS))]
    values = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
    if random.random() < 0.1:
        values[:] = values[0, 0]
    picture = Image.fromarray(values)
    if mode in DEEP:
        deep = values[..., 0].astype(DEEP[mode])
        if mode == "F" and random.random() < 0.3:
            deep[0, 0] = np.nan
        picture = Image.fromarray(deep * (1 if random.random() < 0.5 else 200))
    else:
        picture = picture.convert(mode)
    held, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = int(random.integers(0, 12))
    try:
        picture.save(held, form, **({"exif": exif} if form in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF") else {}))
    except (OSError, ValueError, KeyError):
        held = io.BytesIO()
        Image.fromarray(values).save(held, "PNG")
    return held.getvalue()


class Maker:
    """Makes one random case below a folder."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, np.random.default_rng(seed)
        self.files: list[Path] = []

    def pick(self, things: list[Any]) -> Any:
        return things[int(self.random.integers(len(things)))]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def picture(self, damage: float = 0.01) -> bytes:
        """The bytes of a picture, perhaps damaged."""
        content = bytearray(self.pick(pool()))
        if self.chance(damage):
            kind = int(self.random.integers(5))
            if kind == 0:
                content = bytearray()
            elif kind == 1:
                del content[len(content) // 2 :]
            elif kind == 2:
                content[int(self.random.integers(len(content)))] ^= 0xFF
            elif kind == 3:
                content = bytearray(self.random.bytes(300))
            elif content.startswith(b"\x89PNG"):
                content[16:24] = (30_000).to_bytes(4, "big") * 2
        return bytes(content)

    def folder(self, place: Path, depth: int) -> None:
        place.mkdir(parents=True, exist_ok=True)
        suffixes = SUFFIXES[: self.pick([1, 2, len(SUFFIXES)])]
        for number in range(int(self.pick([0, 0, 1, 3, 6, 12, 30]))):
            path = place / f"{self.pick(STEMS)}{number}{self.pick(suffixes)}"
            path.write_bytes(self.picture())
            self.files.append(path)
        if depth and self.chance(0.9):
            names = [str(self.pick(NAMES)) for _ in range(int(self.random.integers(1, 4)))]
            names += self.pick([["cat", "dog"], ["train", "test"], []])
            for name in dict.fromkeys(names):
                with contextlib.suppress(OSError, UnicodeEncodeError):
                    self.folder(place / name, depth - 1)
        if self.chance(0.1):
            with contextlib.suppress(OSError):
                (place / "link").symlink_to(self.pick([self.root, place, self.root / "none", place / "link"]))

    def list_of(self) -> Path:
        """A list of the files, with all that goes wrong in lists."""
        separator = str(self.pick([",", ";", "\t", "|", " ", ", "]))
        words = ["path", "label", "Filename", "class", "split", "x", ""]
        odd = separator.join(str(self.pick(words)) for _ in range(int(self.random.integers(1, 4))))
        lines = [str(self.pick([odd, f"path{separator}label", f"path{separator}label"]))] if self.chance(0.8) else []
        for path in self.files:
            inside = path.relative_to(self.root)
            name = str(self.pick([inside, path, path.name, path.stem]) if self.chance(0.2) else inside)
            name = name.replace("/", "\\") if self.chance(0.1) else name
            label = str(self.pick(["cat", "dog"] if self.chance(0.99) else ["", " ", '"', "NA", "1,2"]))
            lines.append(separator.join([name, label]))
        content = str(self.pick(["\n", "\r\n", "\r"])).join(lines).encode("utf-8", "surrogateescape")
        content = b"\xef\xbb\xbf" + content if self.chance(0.2) else content
        if self.chance(0.1):
            content = self.random.bytes(200) + content
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / "list.csv"
        path.write_bytes(content)
        return path

    def make(self) -> str:
        if self.chance(0.7):  # classes that can be learned, and on top what chance brings
            top = self.root / str(self.pick(["", "", "data", "images/all"]))
            for part in self.pick([[""], [""], ["train", "test"], ["Train", "valid", "TEST"], ["training_set"]]):
                for name in ("cat", str(self.pick(["dog", "고양이", "café", "<b>"]))):
                    for number in range(int(self.random.integers(4, 60))):
                        path = top / part / name / f"{self.pick(STEMS)}{number}.png"
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(self.picture(damage=0.001))
                        self.files.append(path)
        if self.chance(0.6):
            self.folder(self.root, int(self.random.integers(1, 3)))
        place = str(self.list_of() if self.chance(0.3) else self.root)
        asked = str(
            self.pick(["resize=pad", "resize=squash", "strict=yes", "group=patient%5Cd", "group=(", "resize=x"])
        )
        return f"{place}?{asked}" if self.chance(0.2) else place


def one(seed: int) -> str:
    """What became of a case, in a word; raises where it was not as it should be."""
    from petl_core.data import load_task
    from petl_core.data.card import look
    from petl_core.utils import UserError

    root = Path(tempfile.mkdtemp(prefix="fuzz_"))
    try:
        place = Maker(root / "set", seed).make()
        signal.alarm(LIMIT_SECONDS)
        try:
            card = look(place, 32)
            card.text(everything=True).encode()
            task = load_task(f"folder:{place}", size=16)
            assert not card.refused and len(task.images) == card.pictures == card.counts.sum()
            return "a task"
        except UserError as error:
            str(error).encode()
            return "refused"
        finally:
            signal.alarm(0)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("cases", type=int)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError(f"more than {LIMIT_SECONDS} s")))
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PETL_CACHE"] = cache
        for seed in range(asked.seed, asked.seed + asked.cases):
            try:
                counts[one(seed)] += 1
            except Exception:
                counts["WRONG"] += 1
                print(f"seed {seed}:\n{traceback.format_exc()}", flush=True)
    most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(", ".join(f"{count} {what}" for what, count in counts.items()), f"; {most / 1e9:.2f} GB at most")
    return 1 if counts["WRONG"] or most > LIMIT_BYTES else 0


if __name__ == "__main__":
    raise SystemExit(main())
