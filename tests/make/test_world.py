"""The rendered world: its splits, that it is drawn the same each time and says where it is not, and its captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from petl_core import cli
from petl_core.data import Task, codec
from petl_core.data.embedded import SHIFTS
from petl_core.data.embedded import WORLD_COUNTS as COUNTS
from petl_core.utils import EMBEDDED, UserError
from petl_make import __main__ as command
from petl_make import world, world_files
from petl_make.suite.draw import Draw
from petl_make.world import captions
from petl_make.world.scenes import CLASSES, RENDITIONS, STYLES, picture, scene

PARTS = ("train800", "val200", "test", *SHIFTS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A world of 20 pictures a part, with a file and a card of its own."""
    counts = dict.fromkeys(COUNTS, 20)
    monkeypatch.setattr(world, "WORLD_COUNTS", counts)
    monkeypatch.setattr(world_files, "COUNTS", counts)
    monkeypatch.setattr(world_files, "hard_numbers", lambda: list(range(100, 120)))
    assert world_files.build(tmp_path) == []
    return tmp_path


def pixels(task: Task, split: str) -> set[bytes]:
    return {image.numpy().tobytes() for image in task.split(split)[0]}


def test_splits_are_balanced_disjoint_and_of_the_stated_size(world_task: Task) -> None:
    assert world_task.num_classes == 20 and world_task.image_size == 32
    assert set(world_task.splits) == {*PARTS, "train1000"}
    assert [len(world_task.splits[part]) for part in PARTS] == list(COUNTS.values())
    for part in PARTS:
        assert torch.bincount(world_task.split(part)[1]).tolist() == [len(world_task.splits[part]) // 20] * 20
    assert len({name for part in PARTS for name in world_task.split(part)[2]}) == sum(COUNTS.values())
    assert len(set.union(*(pixels(world_task, part) for part in PARTS))) == sum(COUNTS.values())


def test_pictures_are_those_of_the_shipped_digests_and_of_their_own_numbers(world_task: Task) -> None:
    card = world_files.read_card(EMBEDDED)
    for part, split in zip(COUNTS, PARTS, strict=True):
        numbers = card["hard"][3:5] if part == "hard" else [3, 4]
        again = torch.from_numpy(codec.intensities(world.draw_part(part, numbers)))
        assert torch.equal(again, world_task.split(split)[0][3:5]), part
        assert np.array_equal(world.labels_of(part, numbers), world_task.split(split)[1][3:5])
    assert "hard/" in world_task.split("hard")[2][0]


def test_a_machine_that_draws_other_bits_says_so(small: Path) -> None:
    assert sorted(path.name for path in small.iterdir()) == ["world.json", "world.npz", "world.png"]
    said: list[str] = []
    assert world_files.build(small, check=True, progress=said.append) == []
    assert said[-1] == "world.npz    identical bytes"
    card = json.loads((small / "world.json").read_text())
    card["digests"]["sketch"] = "0" * 16
    card["hard"][0] = 120
    (small / "world.json").write_text(json.dumps(card))
    assert world_files.build(small, check=True) == ["sketch", "hard", "world.npz"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 0, "digests": {}, "hard": []}'])
def test_a_damaged_card_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text(text)
    with pytest.raises(UserError, match=r"world\.json .*git checkout"):
        world_files.build(tmp_path, check=True)


def test_hard_pictures_are_chosen_evenly_or_not_at_all() -> None:
    numbers = world_files.hard_numbers(images=60, candidates=80, each=1)
    assert len(numbers) == 20 and sorted(world.labels_of("hard", numbers)) == list(range(20))
    assert numbers == world_files.hard_numbers(images=60, candidates=80, each=1)
    with pytest.raises(UserError, match=r"too few hard pictures of .* among 40 candidates"):
        world_files.hard_numbers(images=60, candidates=40, each=3)


def test_neither_pixels_nor_colours_settle_the_class(world_task: Task) -> None:
    (train, labels, _), (test, truth, _) = world_task.split("train1000"), world_task.split("test")
    for look in (lambda x: x.flatten(1), lambda x: torch.cat([x.mean((2, 3)), x.std((2, 3))], dim=1)):
        x, y = look(train / 255.0).numpy(), look(test / 255.0).numpy()
        assert LogisticRegression(C=0.05, max_iter=100, tol=0.05).fit(x, labels).score(y, truth) < 0.15  # chance: 0.05


@pytest.mark.parametrize("name", STYLES)
def test_a_style_shows_every_thing(name: str) -> None:
    for label in range(len(CLASSES)):
        draw = Draw("test", "test", label, 0)
        at = scene(draw, label)
        assert 40 < at.thing.sum() < 0.8 * at.thing.size, CLASSES[label]
        image = picture(Draw("test", "test", label, 0), label, name)
        assert image.shape == (32, 32, 3) and image.min() >= 0 and image.max() <= 1
        assert image.std() > 0.02
    assert set(RENDITIONS) < set(STYLES) - {"photo", "sketch"}


def test_captions_are_of_known_words_and_as_wrong_as_asked() -> None:
    named = {name: thing for thing, names in captions.NAMES.items() for name in names}
    assert tuple(captions.NAMES) == CLASSES and set(captions.STYLE_WORDS) == set(STYLES)
    assert len(named) == 2 * len(CLASSES)
    right = none = 0
    for i in range(1500):
        draw = Draw("captions", "test", i, i)
        at = scene(draw, i % 20)
        words = captions.caption(draw, i % 20, "neon", at, wrong=0.2, beside=0.1).split()
        assert set(words) <= set(captions.VOCABULARY) and len(words) <= 12
        things = [named[word] for word in words if word in named]
        none += not things
        right += things == [CLASSES[i % 20]]
    assert abs(none / 1500 - 0.1) < 0.03 and abs(right / 1500 - 0.9 * 0.8) < 0.04


def test_the_commands(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "tasks"]) == 0
    assert "further splits: v2, renditions, sketch, hard" in capsys.readouterr().out
    assert command.main(["world", "--out", str(small), "--check"]) == 0
    assert "renditions      20 pictures" in capsys.readouterr().out
