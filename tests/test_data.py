"""The tasks: the embedded suite's shape, its files' codec, that it is drawn again bit for bit, folders, VTAB-1K's
format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from petl_core.data import SPLITS, Task, codec, embedded, embedded_names, load_task
from petl_core.data.decode import decode_image, to_rgb
from petl_core.data.folder import group_of, split_sizes, stratified
from petl_core.utils import EMBEDDED
from petl_make.suite import COUNTS, embedded_tasks
from petl_make.suite.digits import of_class
from petl_make.suite.draw import Draw, outline_mask
from petl_make.suite.photos import cells

NAMES = embedded_names()


def save(path: Path, array: np.ndarray | Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path)
    return path


def noise(seed: int, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def vtab(tmp_path: Path) -> Path:
    """A small folder in VTAB-1K's format: two classes; 8 train, 4 val, 6 test."""
    folder = tmp_path / "eurosat_small"
    for split, count in {"train800": 8, "val200": 4, "test": 6}.items():
        lines = []
        for i in range(count):
            save(folder / f"images/{split}/{i}.png", noise(hash((split, i)) % 1000, (10, 14, 3)))
            lines.append(f"images/{split}/{i}.png {i % 2}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    (folder / "labels.txt").write_text("field\nriver bank\n")
    return folder


# --- the embedded suite ---


def test_the_suite_has_three_groups() -> None:
    groups = {group: embedded_names(group) for group in ("natural", "specialised", "structured")}
    assert [len(names) for names in groups.values()] == [4, 2, 5]
    assert [name for names in groups.values() for name in names] == NAMES
    assert {"photo_scenes", "textures", "digits"} <= set(groups["natural"])


@pytest.mark.parametrize("name", NAMES)
def test_embedded_task(name: str) -> None:
    task = load_task(name)
    assert isinstance(task, Task)
    assert tuple(task.splits) == SPLITS
    assert [len(task.splits[split]) for split in SPLITS] == [800, 200, 1000, 1000]
    assert task.images.shape == (2000, 3, 32, 32)
    assert task.images.dtype == torch.uint8
    assert task.labels.dtype == torch.int64
    assert task.image_size == 32
    assert 6 <= task.num_classes == len(set(task.classes)) <= 20
    assert len(set(task.ids)) == 2000
    for split in SPLITS:
        counts = torch.bincount(task.split(split)[1], minlength=task.num_classes)
        assert counts.max() - counts.min() <= (2 if split == "train1000" else 1), f"{split} is not balanced"
    assert torch.equal(task.splits["train1000"], torch.cat([task.splits["train800"], task.splits["val200"]]))
    assert not set(task.splits["train1000"].tolist()) & set(task.splits["test"].tolist())


@pytest.mark.parametrize("name", NAMES)
def test_no_picture_twice_and_none_empty(name: str) -> None:
    images = load_task(name).images.flatten(1)
    assert len(torch.unique(images, dim=0)) == len(images)
    assert images.float().std(dim=1).min() > 2.0


@pytest.mark.parametrize("name", NAMES)
def test_mean_colour_does_not_settle_a_task(name: str) -> None:
    """The nearest class by mean colour and contrast is right less than 30 % of the time above chance."""
    task = load_task(name)
    flat = task.images.flatten(2).float()
    looks = torch.cat([flat.mean(dim=2), flat.std(dim=2)], dim=1)
    train, test = task.splits["train1000"], task.splits["test"]
    looks = (looks - looks[train].mean(0)) / looks[train].std(0)
    centres = torch.stack([looks[train][task.labels[train] == c].mean(0) for c in range(task.num_classes)])
    right = (torch.cdist(looks[test], centres).argmin(1) == task.labels[test]).float().mean()
    assert right < 1 / task.num_classes + 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_first_samples_are_drawn_again_exactly(name: str) -> None:
    spec = embedded_tasks()[name]
    arrays = codec.read_npz(EMBEDDED / f"{name}.npz", embedded.ARRAYS)
    start = 0
    for split, count in COUNTS.items():
        some = [0, 1, count - 1]
        shipped = codec.decode(arrays["residuals"][[start + i for i in some]])
        assert np.array_equal(embedded.sample_split(spec, split, some), shipped), f"{name}: {split} differs"
        assert np.array_equal(arrays["labels"][start : start + count], embedded.balanced_labels(spec, split))
        if spec.colour == "tinted":
            assert np.array_equal(arrays["tints"][start : start + count], embedded.sample_tints(spec, split))
        start += count


@pytest.mark.slow
def test_build_writes_the_shipped_bytes(tmp_path: Path) -> None:
    said: list[str] = []
    assert embedded.build(EMBEDDED, check=True, names=["textures", "science"], progress=said.append) == []
    assert all(line.endswith(("identical bytes", "equal arrays")) for line in said)
    embedded.build(tmp_path, names=["science"], progress=None)
    assert load_task("science").digest == embedded.load_embedded("science", tmp_path).digest
    assert (tmp_path / "README.md").is_file()
    assert Image.open(tmp_path / "examples.png").width > 500


def test_check_tells_a_changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = embedded_tasks()["science"]
    monkeypatch.setattr(embedded, "COUNTS", {"train": 8, "val": 8, "test": 8})
    arrays = embedded.task_arrays(spec)
    path = tmp_path / "science.npz"
    path.write_bytes(codec.npz_bytes(arrays))
    assert embedded.build(tmp_path, check=True, names=["science"], progress=None) == []
    np.savez(path, **arrays)
    assert embedded.compare(path, arrays, codec.npz_bytes(arrays)) == "equal arrays"
    path.write_bytes(codec.npz_bytes(arrays | {"labels": arrays["labels"][::-1]}))
    assert embedded.build(tmp_path, check=True, names=["science"], progress=None) == ["science"]


def test_the_suite_is_small_and_described() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED.glob("*.npz")) < 12e6
    text = (EMBEDDED / "README.md").read_text()
    for task in embedded_tasks().values():
        assert f"| {task.name} | {task.group} | {len(task.classes)} |" in text
        assert task.source
        assert task.licence
    assert Image.open(EMBEDDED / "examples.png").height > 60 * len(NAMES)


# --- how it is drawn and stored ---


@pytest.mark.parametrize("planes", [1, 3])
def test_codec_gives_back_every_level(planes: int) -> None:
    levels = np.random.default_rng(0).integers(0, codec.LEVELS, (5, planes, 9, 9), dtype=np.uint8)
    assert np.array_equal(codec.decode(codec.encode(levels)), levels)


def test_levels_span_black_to_white() -> None:
    assert codec.quantise(np.array([-0.1, 0.0, 0.5, 1.0, 1.1])).tolist() == [0, 0, 16, 31, 31]
    assert codec.intensities(np.array([0, 31], dtype=np.uint8)).tolist() == [0, 255]
    tints = np.array([[[10, 20, 30], [200, 210, 220]]], dtype=np.uint8)
    ends = codec.tinted(np.array([[[[0, 31]]]], dtype=np.uint8), tints)
    assert ends[0, :, 0].T.tolist() == tints[0].tolist()


def test_npz_bytes_do_not_depend_on_the_clock(tmp_path: Path) -> None:
    arrays = {"b": np.arange(5), "a": np.zeros((2, 3))}
    content = codec.npz_bytes(arrays)
    assert content == codec.npz_bytes(dict(reversed(arrays.items())))
    (tmp_path / "x.npz").write_bytes(content)
    with np.load(tmp_path / "x.npz") as archive:
        assert all(np.array_equal(archive[key], arrays[key]) for key in arrays)


@pytest.mark.parametrize("name", ["skimage/chelsea.png", "sklearn/china.jpg", "elevation"])
def test_cells_of_a_photograph_are_shared_out_once(name: str) -> None:
    found = {split: {cell.tobytes() for cell in cells(name, 48, split)} for split in COUNTS}
    assert not found["train"] & found["test"]
    assert not found["train"] & found["val"]
    assert not found["val"] & found["test"]
    assert all(found.values())
    memory = [cell.__array_interface__["data"][0] for split in COUNTS for cell in cells(name, 48, split)]
    assert len(set(memory)) == len(memory)


def test_draw_is_fixed_by_task_split_and_index() -> None:
    values = [
        Draw(*key, 0).uniform() for key in (("a", "train", 0), ("b", "train", 0), ("a", "test", 0), ("a", "train", 1))
    ]
    assert len(set(values)) == 4
    assert values[0] == Draw("a", "train", 0, 7).uniform()
    assert sorted(Draw("a", "train", 0, 0).order(9).tolist()) == list(range(9))


def test_outline_mask_fills_by_winding_number() -> None:
    square = np.array([[2, 2], [8, 2], [8, 8], [2, 8]])
    hole = np.array([[4, 4], [6, 4], [6, 6], [4, 6]])
    mask = outline_mask([square, hole[::-1]], size=10, fine=1)
    assert mask.sum() == 36 - 4
    assert mask[5, 5] == 0
    assert mask[3, 3] == 1
    assert outline_mask([square, hole], size=10, fine=1).sum() == 36


def test_no_handwritten_digit_is_in_two_splits() -> None:
    found = {split: [digit.tobytes() for c in range(10) for digit in of_class(split, c)] for split in COUNTS}
    assert [len(digits) for digits in found.values()] == [637, 160, 1000]
    assert len(set().union(*found.values())) == 1797
    counted = [sum(min(len(of_class(split, c)), COUNTS[split] // 10) for c in range(10)) for split in COUNTS]
    assert "({}, {}\n  and {} occur)".format(*counted) in (EMBEDDED / "README.md").read_text()


# --- Task ---


def test_digest_covers_pixels_labels_and_splits(vtab: Path) -> None:
    first = load_task(f"vtab:{vtab}", size=8)
    assert first.digest == load_task(f"vtab:{vtab}", size=8).digest
    assert first.digest != load_task(f"vtab:{vtab}", size=9).digest
    lines = (vtab / "train800.txt").read_text()
    (vtab / "train800.txt").write_text(lines.replace("0.png 0", "0.png 1"))
    assert first.digest != load_task(f"vtab:{vtab}", size=8).digest
    (vtab / "train800.txt").write_text("".join(reversed(lines.splitlines(keepends=True))))
    assert first.digest != load_task(f"vtab:{vtab}", size=8).digest


def test_split_gives_matching_rows() -> None:
    task = load_task("digits")
    images, labels, ids = task.split("val200")
    assert len(images) == len(labels) == len(ids) == 200
    assert ids[3] == "digits/val/0003"
    assert torch.equal(images[3], task.images[803])
    assert "digits" in repr(task)
    assert "train800 800" in repr(task)
    with pytest.raises(ValueError, match="no split 'train'; its splits are train800"):
        task.split("train")
    assert replace(task, name="other").digest == task.digest


# --- folders ---


def test_vtab_folder(vtab: Path) -> None:
    task = load_task(f"vtab:{vtab}")
    assert task.name == "vtab:eurosat_small"
    assert task.group == "specialised"
    assert task.classes == ("field", "river bank")
    assert task.image_size == 224
    assert [len(task.splits[split]) for split in SPLITS] == [8, 4, 12, 6]
    assert task.split("test")[2][0] == "images/test/0.png"
    first = decode_image(vtab / "images/test/1.png", 224)
    assert np.array_equal(task.split("test")[0][1].numpy(), first)


def test_vtab_folder_without_labels_txt(vtab: Path) -> None:
    (vtab / "labels.txt").unlink()
    assert load_task(f"vtab:{vtab}", size=8).classes == ("class 0", "class 1")


def test_vtab1k_is_found_under_petl_data(vtab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETL_DATA", str(vtab.parent))
    task = load_task("vtab1k/eurosat_small", size=8)
    assert task.name == "vtab1k/eurosat_small"
    assert task.digest == load_task(f"vtab:{vtab}", size=8).digest


@pytest.mark.parametrize(("name", "classes", "test"), [("pneumoniamnist", 2, 624), ("coil20_azimuth", 12, 440)])
def test_real_vtab_task(name: str, classes: int, test: int, petl_data: Path) -> None:
    if not any((petl_data / inside / name).is_dir() for inside in ("", "vtab1k", "vtab_processed")):
        pytest.skip(f"{name} is not under {petl_data}")
    task = load_task(f"vtab1k/{name}", size=32)
    assert task.num_classes == classes
    assert [len(task.splits[split]) for split in SPLITS] == [800, 200, 1000, test]


def test_image_folder_is_split_by_class(tmp_path: Path) -> None:
    for name, count in {"ant": 30, "bee": 20, "cow": 10}.items():
        for i in range(count):
            save(tmp_path / name / f"{i:02d}.png", noise(i))
    task = load_task(f"folder:{tmp_path}", size=8)
    assert task.classes == ("ant", "bee", "cow")
    assert task.group == "other"
    assert [len(task.splits[split]) for split in SPLITS] == [24, 6, 30, 30]
    assert torch.bincount(task.split("test")[1]).tolist() == [15, 10, 5]
    assert torch.bincount(task.split("train800")[1]).tolist() == [12, 8, 4]
    assert task.ids[0] == "ant/00.png"
    assert task.digest == load_task(f"folder:{tmp_path}", size=8).digest


def test_image_folder_with_its_own_splits(tmp_path: Path) -> None:
    for part, count in {"train": 10, "test": 4}.items():
        for name in ("ant", "bee"):
            for i in range(count):
                save(tmp_path / part / name / f"{i}.png", noise(i))
    task = load_task(f"folder:{tmp_path}", size=8)
    assert [len(task.splits[split]) for split in SPLITS] == [16, 4, 20, 8]
    assert all(sample.startswith("test/") for sample in task.split("test")[2])
    save(tmp_path / "val/ant/0.png", noise(0))
    save(tmp_path / "val/bee/0.png", noise(1))
    assert load_task(f"folder:{tmp_path}", size=8).split("val200")[2] == ("val/ant/0.png", "val/bee/0.png")


def test_split_sizes_and_strata() -> None:
    assert split_sizes(2500) == (800, 200, 1500)
    assert split_sizes(100) == (40, 10, 50)
    labels = np.repeat(np.arange(5), 600)
    train, val, test = stratified(labels)
    assert sorted(np.concatenate([train, val, test]).tolist()) == list(range(3000))
    assert np.bincount(labels[train]).tolist() == [160] * 5
    assert np.bincount(labels[val]).tolist() == [40] * 5


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("cifar", "natural"),
        ("oxford_iiit_pet", "other"),
        ("patch_camelyon", "specialised"),
        ("diabetic_retinopathy", "specialised"),
        ("dsprites_loc", "structured"),
        ("clevr_count", "structured"),
        ("my_photos", "other"),
    ],
)
def test_group_by_name(name: str, group: str) -> None:
    assert group_of(name) == group


# --- decoding ---


def test_modes_become_rgb(tmp_path: Path) -> None:
    grey = noise(0, (8, 8))
    assert np.array_equal(decode_image(save(tmp_path / "g.png", grey), 8), np.repeat(grey[None], 3, axis=0))
    deep = save(tmp_path / "d.png", Image.fromarray(grey.astype(np.uint16) * 257))
    assert np.array_equal(decode_image(deep, 8), np.repeat(grey[None], 3, axis=0))
    clear = save(tmp_path / "c.png", np.zeros((8, 8, 4), dtype=np.uint8))
    assert (decode_image(clear, 8) == 255).all()
    colours = Image.fromarray(noise(1)).quantize(16)
    assert np.array_equal(
        decode_image(save(tmp_path / "p.png", colours), 8)[:, 0, 0], np.asarray(colours.convert("RGB"))[0, 0]
    )
    assert np.asarray(to_rgb(Image.fromarray(np.array([[0.0, 1.0]], dtype=np.float32))))[0, :, 0].tolist() == [0, 255]
    assert np.asarray(to_rgb(Image.fromarray(np.array([[-5, 95]], dtype=np.int32))))[0, :, 0].tolist() == [0, 255]
    ink = save(tmp_path / "k.jpg", Image.new("CMYK", (8, 8)))
    assert decode_image(ink, 8).min() > 250


def test_size_ignores_proportions(tmp_path: Path) -> None:
    assert decode_image(save(tmp_path / "w.png", noise(0, (4, 20, 3))), 16).shape == (3, 16, 16)
