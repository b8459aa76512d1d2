"""The drawn suite: bit for bit what is shipped, nothing twice, nothing told by colour; and how it is stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from petl_core.data import codec, embedded_names, load_task
from petl_core.data.embedded import ARRAYS, COUNTS, block_path, load_embedded
from petl_core.models import text_tower
from petl_core.utils import EMBEDDED, UserError
from petl_make import __main__ as command
from petl_make import card, suite_files
from petl_make import codec as encoder
from petl_make.suite import embedded_task, embedded_tasks
from petl_make.suite.digits import of_class
from petl_make.suite.draw import Draw, outline_mask
from petl_make.suite.photos import cells
from petl_make.world import captions, scenes

NAMES = embedded_names()


def test_tasks_json_is_what_the_makers_would_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """All digests of tasks and weights; those of further images only where somebody has drawn them."""
    shipped = json.loads((EMBEDDED / "tasks.json").read_text())
    there = [name for name in suite_files.AMOUNTS if name.endswith("@100") or _is_drawn(name)]
    for row in shipped["tasks"]:
        row["digests"] = {name: text for name, text in row["digests"].items() if "@" not in name or name in there}
    assert json.loads(json.dumps(suite_files.index(amounts=there))) == shipped


def _is_drawn(name: str) -> bool:
    return block_path(name.partition("@")[0], 8).is_file()


def test_the_core_knows_the_renderers_classes_and_prompts() -> None:
    assert text_tower.WORLD_CLASSES == scenes.CLASSES and text_tower.WORLD_PROMPTS == captions.PROMPTS


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
    arrays = codec.read_npz(EMBEDDED / f"{name}.npz", ARRAYS)
    start = 0
    for split, count in COUNTS.items():
        some = [0, 1, count - 1]
        shipped = codec.decode(arrays["residuals"][[start + i for i in some]])
        assert np.array_equal(suite_files.sample_split(spec, split, some), shipped), f"{name}: {split} differs"
        assert np.array_equal(arrays["labels"][start : start + count], suite_files.balanced_labels(spec, split, count))
        if spec.colour == "tinted":
            assert np.array_equal(arrays["tints"][start : start + count], suite_files.sample_tints(spec, split, count))
        start += count


@pytest.mark.slow
def test_build_writes_the_shipped_bytes(tmp_path: Path) -> None:
    said: list[str] = []
    assert suite_files.build(EMBEDDED, ["textures", "science"], check=True, progress=said.append) == []
    assert all(line.endswith(("identical bytes", "equal arrays")) for line in said)
    suite_files.build(tmp_path, ["science"], progress=said.append)
    assert load_task("science").digest == load_embedded("science", tmp_path).digest
    assert (tmp_path / "README.md").is_file()
    assert Image.open(tmp_path / "examples.png").width > 500


def test_check_tells_a_changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = embedded_tasks()["science"]
    monkeypatch.setattr(suite_files, "COUNTS", {"train": 8, "val": 8, "test": 8})
    arrays = suite_files.task_arrays(spec)
    path = tmp_path / "science.npz"
    path.write_bytes(encoder.npz_bytes(arrays))
    assert suite_files.build(tmp_path, ["science"], check=True, progress=print) == []
    np.savez(path, **arrays)
    assert encoder.compare(path, arrays, encoder.npz_bytes(arrays)) == "equal arrays"
    path.write_bytes(encoder.npz_bytes(arrays | {"labels": arrays["labels"][::-1]}))
    assert suite_files.build(tmp_path, ["science"], check=True, progress=print) == ["science"]


def test_the_suite_is_small_and_described() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED.glob("*.npz")) < 20e6
    text = (EMBEDDED / "README.md").read_text()
    filled = card.TEMPLATE.read_text().format(**card.facts())
    assert filled.rpartition("\nDrawn with ")[0] == text.rpartition("\nDrawn with ")[0]  # the versions may differ
    for task in embedded_tasks().values():
        assert f"| {task.name} | {task.group} | {len(task.classes)} |" in text
        assert task.source
        assert task.licence
    assert Image.open(EMBEDDED / "examples.png").height > 60 * len(NAMES)


@pytest.mark.parametrize("planes", [1, 3])
def test_codec_gives_back_every_level(planes: int) -> None:
    levels = np.random.default_rng(0).integers(0, codec.LEVELS, (5, planes, 9, 9), dtype=np.uint8)
    assert np.array_equal(codec.decode(encoder.encode(levels)), levels)


def test_levels_span_black_to_white() -> None:
    assert encoder.quantise(np.array([-0.1, 0.0, 0.5, 1.0, 1.1])).tolist() == [0, 0, 16, 31, 31]
    assert codec.intensities(np.array([0, 31], dtype=np.uint8)).tolist() == [0, 255]
    tints = np.array([[[10, 20, 30], [200, 210, 220]]], dtype=np.uint8)
    ends = codec.tinted(np.array([[[[0, 31]]]], dtype=np.uint8), tints)
    assert ends[0, :, 0].T.tolist() == tints[0].tolist()


def test_npz_bytes_do_not_depend_on_the_clock(tmp_path: Path) -> None:
    arrays = {"b": np.arange(5), "a": np.zeros((2, 3))}
    content = encoder.npz_bytes(arrays)
    assert content == encoder.npz_bytes(dict(reversed(arrays.items())))
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


def test_registry_refuses_a_second_task_of_a_name_and_a_wrong_colour() -> None:
    embedded_tasks()
    values = {"group": "natural", "classes": ("a",), "description": "", "source": "", "licence": ""}
    with pytest.raises(ValueError, match="two embedded tasks are named 'digits'"):
        embedded_task(name="digits", **values)(lambda draw, label: np.zeros((32, 32)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="colour is 'blue'"):
        embedded_task(name="new", colour="blue", **values)  # type: ignore[arg-type]


# --- further training images ---


def test_later_blocks_are_other_samples_and_begin_the_same() -> None:
    task = embedded_tasks()["orientation"]
    one, two = (suite_files.draw_block(task, block, count=20) for block in (0, 1))
    assert not np.array_equal(one["labels"], two["labels"])
    assert not {x.tobytes() for x in one["levels"]} & {x.tobytes() for x in two["levels"]}
    assert one["tints"].shape == (20, 2, 3) and np.bincount(one["labels"]).max() <= 3


def test_more_images_are_drawn_once_and_again_where_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real command, for one block of a thousand."""
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="petl_make suite --more count@1200"):
        load_task("count@1200")
    more = ["suite", "--more", "count@1200"]
    assert command.main(more) == 0
    (path,) = (tmp_path / "cache").iterdir()
    assert path == block_path("count", 0) and "block 1 of 1 drawn in" in capsys.readouterr().out
    task, whole = load_task("count@1200"), path.read_bytes()
    assert [len(task.splits[split]) for split in ("train800", "val200")] == [1000, 200]
    images = task.split("train800")[0]
    assert len(torch.unique(images.flatten(1), dim=0)) == 1000 and task.classes == load_task("count").classes
    assert {i.partition("/0")[0] for i in task.split("train800")[2]} == {"count/train"}
    assert command.main(more) == 0 and "is there already" in capsys.readouterr().out

    path.write_bytes(whole[:1000])
    with pytest.raises(UserError, match="damaged"):
        load_task("count@1200")
    monkeypatch.setattr(suite_files, "draw_block", lambda task, block: dict(codec.read_npz(shipped, ())))
    shipped = tmp_path / "whole.npz"
    shipped.write_bytes(whole)
    assert command.main(more) == 0 and path.read_bytes() == whole


@pytest.mark.parametrize("name", ["orientation", "orientation@1e4", "digits@5000", "world@2000", "orientatoin@2000"])
def test_further_images_that_there_cannot_be(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["suite", "--more", name]) == 2
    assert name.partition("@")[0] in capsys.readouterr().err


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(suite_files, "draw_block", lambda task, block: {"levels": np.zeros(3)})
    with pytest.raises(UserError, match="cannot write"):
        suite_files.draw_more("orientation@1100")
