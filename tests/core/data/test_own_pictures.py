"""Formats, modes, orientation, depth and damage: what becomes of each kind of picture."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from made_pictures import fill, noise, put, two
from PIL import Image, ImageOps

from petl_core.data import load_task
from petl_core.data.card import look
from petl_core.data.decode import Preparation, decode_image
from petl_core.data.scan import look as look_at
from petl_core.utils import UserError

UPRIGHT = Preparation(upright=True)
QUARTERS = np.kron(np.array([[1, 2], [3, 4]]), np.ones((20, 30))).astype(np.uint8) * 60


def kinds(root: Path, size: int = 32) -> dict[str, int]:
    return {finding.kind: finding.count for finding in look(str(root), size).findings}


def decoded(root: Path, size: int = 40, **options: str) -> dict[str, np.ndarray]:
    asked = "&".join(f"{key}={value}" for key, value in options.items())
    task = load_task(f"folder:{root}" + (f"?{asked}" if asked else ""), size=size)
    return {name: image.numpy() for name, image in zip(task.ids, task.images, strict=True)}


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_exif_orientation(suffix: str, tag: int, tmp_path: Path) -> None:
    picture, exif = Image.fromarray(QUARTERS).convert("RGB"), Image.Exif()
    exif[0x0112] = tag
    path = put(tmp_path / f"a.{suffix}", picture, exif=exif, quality=95)
    picture.getexif()[0x0112] = tag
    upright = ImageOps.exif_transpose(picture).resize((8, 8), Image.Resampling.BICUBIC)
    found = decode_image(path, 8, UPRIGHT).astype(int)
    assert np.abs(found - np.asarray(upright).transpose(2, 0, 1)).mean() < 6
    seen = look_at(path, path.stat().st_size)
    assert seen.turned == (tag != 1) and (seen.width > seen.height) == (tag < 5)


@pytest.mark.parametrize(
    "suffix",
    [*("png", "jpg", "jpeg", "JPG", "jfif", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "gif", "avif", "jp2"),
     *("tga", "ico", "pcx", "dds", "sgi", "qoi", "icns")],
)  # fmt: skip
def test_every_format_that_pillow_reads(suffix: str, tmp_path: Path) -> None:
    root = two(tmp_path / "a", 4)
    form = {"jfif": "JPEG", "pgm": "PPM"}.get(suffix)
    put(root / f"cat/one.{suffix}", noise(7, 64, 64), **({"format": form} if form else {}))
    assert len(decoded(root)) == 9 and "unreadable" not in kinds(root)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"])
def test_every_mode(mode: str, tmp_path: Path) -> None:
    white = Image.new("RGB", (16, 16), "white")
    picture = Image.new(mode, (16, 16), 65535) if mode == "I;16" else white.convert(mode)
    suffix = {"CMYK": "jpg", "YCbCr": "jpg", "LAB": "tif"}.get(mode, "png")
    assert decode_image(put(tmp_path / f"a.{suffix}", picture), 8, UPRIGHT).min() > 240


def test_by_content_not_by_suffix(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 4)
    for name in ("a.jpg", "b", "c.dat", "d.txt"):
        put(root / "cat" / name, noise(ord(name[0])), format="PNG")
    assert len(decoded(root)) == 12


def test_formats_of_other_packages_are_named(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 4)
    for name in ("a.HEIC", "b.jpg"):
        (root / "cat" / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    (root / "cat/c.nef").write_bytes(b"II*\0" + bytes(50))
    text = look(str(root), 8).text()
    assert "2 needs the package pillow-heif" in text and "1 needs the package rawpy" in text and len(decoded(root)) == 8


@pytest.mark.parametrize("name", ["zero.jpg", "text.jpg", "cut.png", "cut.jpg", "flipped.png", "nothing.tif"])
def test_damaged_files_are_named_all_at_once(name: str, tmp_path: Path) -> None:
    root, path = two(tmp_path / "a", 6), tmp_path / "a/cat" / name
    content = put(tmp_path / f"whole{path.suffix}", noise(3, 90, 90)).read_bytes()
    changed = {"zero": b"", "text": b"no picture", "cut": content[:-200], "nothing": content[:20]}
    flipped = content[:60] + bytes(255 - b for b in content[60:90]) + content[90:]
    path.write_bytes(changed.get(path.stem, flipped))
    (root / "dog/also.png").write_bytes(b"")
    with pytest.raises(UserError, match=rf"2 of 14.*cat/{name}.*dog/also.png"):
        load_task(f"folder:{root}", size=8)
    card = look(str(root), 8)
    assert card.refused and "cannot be read" in card.text()


def test_few_damaged_files_are_left_out_unless_strict(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 60)
    (root / "cat/bad.png").write_bytes(b"")
    assert kinds(root)["unreadable"] == 1 and len(decoded(root)) == 120
    with pytest.raises(UserError, match=r"bad\.png"):
        load_task(f"folder:{root}?strict=yes", size=8)


# --- depth ---


@pytest.mark.parametrize(("top", "whole"), [(65535, 65535), (4095, 4095), (1000, 1023), (200, 255)])
def test_deep_pictures_have_one_scaling(top: int, whole: int, tmp_path: Path) -> None:
    root = two(tmp_path / "a", 3)
    for i, value in enumerate((top // 2, top)):
        put(root / f"cat/deep{i}.png", Image.fromarray(np.full((40, 40), value, dtype=np.uint16)))
    found = decoded(root)
    assert found["cat/deep1.png"].max() == round(top / whole * 255)
    assert abs(int(found["cat/deep0.png"].max()) - top / 2 / whole * 255) <= 1
    assert kinds(root).get("deep", 0) == (1 if whole == 65535 else 2)


def test_floats_have_one_scaling(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, low in (("low", 300), ("high", 800)):
        for i in range(4):
            values = np.float32(low + 200 * random.random((40, 40)))
            put(tmp_path / f"a/{name}/{i}.tif", Image.fromarray(values))
    found = decoded(tmp_path / "a")
    assert max(v.max() for k, v in found.items() if "low" in k) < min(v.min() for k, v in found.items() if "high" in k)
    put(tmp_path / "a/low/nan.tif", Image.fromarray(np.float32([[1, np.nan]])))
    with pytest.raises(UserError, match=r"nan\.tif: .*not finite"):
        load_task(f"folder:{tmp_path / 'a'}")


def tiff(path: Path, bands: np.ndarray, extra: int | None) -> Path:
    """An uncompressed TIFF of bands (h, w, n), with the tag that says what the fourth one is, or without."""
    height, width, n = bands.shape
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 0),
            (277, 3, 1, n), (278, 3, 1, height), (279, 4, 1, bands.size)]  # fmt: skip
    tags += [(338, 3, 1, extra)] if extra is not None else []
    start = 8 + 2 + 12 * len(tags) + 4
    depth_at = start
    rows = [(258, 3, n, depth_at) if t[0] == 258 else (273, 4, 1, start + 2 * n) if t[0] == 273 else t for t in tags]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(rows))
    content = head + b"".join(struct.pack("<HHII", *row) for row in rows) + bytes(4) + struct.pack(f"<{n}H", *[8] * n)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content + bands.tobytes())
    return path


@pytest.mark.parametrize("extra", [None, 0])
def test_a_fourth_band_that_is_no_transparency(extra: int | None, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    root = two(tmp_path / "a", 3)
    tiff(root / "cat/infrared.tif", random.integers(0, 60, (40, 40, 4), dtype=np.uint8), extra)
    with pytest.raises(UserError, match=r"infrared\.tif: .*4 bands"):
        load_task(f"folder:{root}", size=8)
    clear = root / "cat/infrared.tif"
    clear.unlink()
    put(root / "dog/alpha.png", Image.fromarray(random.integers(1, 60, (40, 40, 4), dtype=np.uint8)))
    assert kinds(root)["fourth band"] == 1


def test_frames_and_pages_are_said(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 4)
    frames = [noise(i) for i in range(3)]
    for name in ("a.gif", "b.webp", "c.tif", "d.png"):
        put(root / "cat" / name, frames[0], save_all=True, append_images=frames[1:])
    put(root / "cat/e.jpg", frames[1], format="MPO", save_all=True, append_images=frames[2:])
    assert kinds(root)["frames"] == 5
    found = decoded(root)
    assert np.abs(found["cat/b.webp"].astype(int) - found["cat/c.tif"]).mean() < 12


# --- sizes ---


def test_tiny_small_and_long_pictures(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 6)
    put(root / "cat/one.png", Image.new("RGB", (1, 1)))
    strip = Image.new("RGB", (400, 40), "white")
    strip.paste((255, 0, 0), (380, 0, 400, 40))  # the thing to see is at one end
    put(root / "dog/strip.png", strip)
    put(root / "dog/line.png", Image.new("RGB", (3000, 1)))
    seen = kinds(root)
    assert seen["tiny"] == 2 and "--resize pad" in look(str(root), 32).text()
    found = {resize: decoded(root, 32, resize=resize)["dog/strip.png"] for resize in ("crop", "pad", "squash")}
    assert [bool((image[1] < 100).any()) for image in found.values()] == [False, True, True]
    assert (found["pad"][:, 0] == 128).all() and found["pad"].shape == (3, 32, 32)
    with pytest.raises(UserError, match="resize is 'stretch'"):
        load_task(f"folder:{root}?resize=stretch")
    with pytest.raises(UserError, match="does not exist"):
        load_task(f"folder:{root}?shrink=1")


def test_the_choice_is_kept_with_the_task(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 4)
    assert load_task(f"folder:{root}", size=8).preparation == Preparation("crop", upright=True)
    assert load_task(f"folder:{root}", size=64).preparation.resize == "squash"  # smaller than the square: whole
    assert load_task(f"folder:{root}?resize=pad", size=8).preparation.resize == "pad"


def png_of(width: int, height: int) -> bytes:
    """A grey PNG of one value in a few kilobytes."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    parts = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.slow
def test_huge_pictures_are_read_at_scale_or_refused_by_name(tmp_path: Path) -> None:
    root = two(tmp_path / "a", 60)
    (root / "cat/huge.png").write_bytes(png_of(14_000, 14_000))
    put(root / "dog/huge.jpg", Image.new("L", (16_000, 16_000), 90))
    assert kinds(root)["huge"] == 2 and len(decoded(root, 8)) == 122
    (root / "cat/huge.png").write_bytes(png_of(40_000, 40_000))
    with pytest.raises(UserError, match=r"huge\.png: 40000 x 40000 pixels are too many.*250 megapixels.*smaller"):
        load_task(f"folder:{root}?strict=yes", size=8)


def test_a_large_jpeg_is_decoded_at_scale_and_looks_the_same(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", noise(1, 900, 1200))
    whole, scaled = decode_image(path, 32), decode_image(path, 32, UPRIGHT)
    assert np.abs(whole.astype(int) - scaled).mean() < 2
    seen = look_at(path, path.stat().st_size)
    assert (seen.width, seen.height) == (1200, 900)


def test_tasks_too_large_for_memory_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "a", {"cat": 5, "dog": 5})
    whole = load_task(f"folder:{root}", size=16)
    monkeypatch.setattr("petl_core.data.cache.IN_MEMORY", 10)
    mapped = load_task(f"folder:{root}", size=16)
    assert mapped.images[:].equal(whole.images) and mapped.digest == whole.digest


def test_without_a_place_for_the_cache_pictures_are_decoded_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = two(tmp_path / "a", 4)
    digest = load_task(f"folder:{root}", size=16).digest
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "file/cache"))
    assert load_task(f"folder:{root}", size=16).digest == digest
