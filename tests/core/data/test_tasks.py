"""Tasks read: the embedded ones from their files, image folders, VTAB-1K's format; decoding of all kinds of files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from petl_core.data import SPLITS, Task, embedded_names, load_task
from petl_core.data.decode import AHEAD, decode_image, prefetched, to_rgb
from petl_core.data.embedded import embedded_tasks, known_digest
from petl_core.data.load import counts
from petl_core.data.split import split_sizes, stratified
from petl_core.data.vtab import VTAB_SIZES, group_of
from petl_core.utils import UserError

NAMES = embedded_names()


def save(path: Path, array: np.ndarray | Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path)
    return path


def noise(seed: int, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- the embedded suite ---


def test_the_suite_has_three_groups() -> None:
    groups = {group: embedded_names(group) for group in ("natural", "specialised", "structured")}
    assert [len(names) for names in groups.values()] == [4, 2, 5]
    assert [name for names in groups.values() for name in names] == NAMES


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


def test_loading_an_embedded_task_imports_nothing_that_draws() -> None:
    code = (
        "import sys; from petl_core.data import load_task; load_task('science'); load_task('textures@100'); "
        "print([name for name in sys.modules if name.startswith('petl_make')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_digests_are_known_without_reading_an_image() -> None:
    assert known_digest("world") == "f7c619316e43e1d2ac1969555b74b869"
    for name in ("science", "orientation@100"):
        assert known_digest(name) == load_task(name).digest
    assert len(known_digest("orientation@10000") or "") == 32
    for name in ("orientation@500", "folder:science", "real/cifar100@500", "nothing"):
        assert known_digest(name) is None
    code = "from petl_core.data.embedded import known_digest; known_digest('digits'); import sys; print(*sys.modules)"
    assert " torch " not in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout


def test_counts_are_known_by_name() -> None:
    for name in ("digits", "world", "textures@100"):
        task, known = load_task(name), counts(name)
        assert [known.of(split) for split in SPLITS] == [len(task.splits[split]) for split in SPLITS]
        assert known.classes == task.num_classes
        assert known.more == sum(len(index) for split, index in task.splits.items() if split not in SPLITS)
    assert counts("vtab1k/svhn").test == VTAB_SIZES["svhn"].test == 26_032
    assert counts("real/clevr_dist@1000").of("train800") == 800 and counts("real/clevr_dist@1000").classes == 6
    assert counts("imagenet/100shot-seed0").more == 98_389
    assert counts("folder:mine") == counts("vtab1k/mine") == counts("nothing")


def test_the_same_images_give_the_written_digests() -> None:
    """Of every embedded task at its own size; the makers' tests compare drawing with the files."""
    assert {name: load_task(name).digest for name in embedded_tasks()} == {
        name: task.digests[name] for name, task in embedded_tasks().items()
    }


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
    with pytest.raises(ValueError, match=r"no split 'train'.*train800"):
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
    assert split_sizes(2000) == (800, 200, 1000)
    assert split_sizes(2500) == (1200, 300, 1000)
    assert split_sizes(100_000) == (80_000, 10_000, 10_000)
    assert split_sizes(100) == (40, 10, 50)
    labels = np.repeat(np.arange(5), 600)
    train, val, test = stratified(labels)
    assert sorted(np.concatenate([train, val, test]).tolist()) == list(range(3000))
    assert np.bincount(labels[train]).tolist() == [320] * 5
    assert np.bincount(labels[val]).tolist() == [80] * 5


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("cifar10_jpeg", "natural"),
        ("oxford_iiit_pet", "natural"),
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
    whole = Image.fromarray(np.array([[-5, 95]], dtype=np.int32))
    assert np.asarray(to_rgb(whole, (-5, 95)))[0, :, 0].tolist() == [0, 255]
    with pytest.raises(UserError, match="from -5 to 95"):
        to_rgb(whole)
    ink = save(tmp_path / "k.jpg", Image.new("CMYK", (8, 8)))
    assert decode_image(ink, 8).min() > 250


def test_size_ignores_proportions(tmp_path: Path) -> None:
    assert decode_image(save(tmp_path / "w.png", noise(0, (4, 20, 3))), 16).shape == (3, 16, 16)


def test_prefetched_keeps_the_order_and_looks_a_few_items_ahead() -> None:
    """However long the stream, only so many have been asked for when the first comes out."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    stream = prefetched(endless(), lambda number: number * number)
    assert [next(stream) for _ in range(3)] == [(1, 1), (2, 4), (3, 9)]
    assert taken == AHEAD + 3
    stream.close()
    assert list(prefetched(range(3), str)) == [(0, "0"), (1, "1"), (2, "2")]
