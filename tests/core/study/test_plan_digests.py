"""A plan reads no images: digests are known or kept, and one that is kept changes with what it was found from."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from petl_core.data import load_task
from petl_core.data.embedded import embedded_tasks
from petl_core.models import weights
from petl_core.study import digests
from petl_core.study.digests import ABSENT, task_digest, weights_digest
from petl_core.study.plan import plan_trials
from petl_core.study.profiles import profile
from petl_core.utils import UserError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "cache"))
    digests.forget()
    yield tmp_path / "cache" / "digests"
    digests.forget()


@pytest.fixture
def folder(tmp_path):
    """Two classes of four pictures each, one class behind a link."""
    for label, name in enumerate(("a", "b")):
        place = tmp_path / ("elsewhere" if name == "b" else "pictures/a")
        place.mkdir(parents=True)
        for number in range(4):
            pixels = np.full((8, 8, 3), 20 * number + 100 * label, dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    (tmp_path / "pictures" / "b").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "pictures"


@pytest.fixture
def reads(monkeypatch):
    """The tasks and weights that are read."""
    found: list[str] = []
    monkeypatch.setattr(digests, "load_task", lambda name, size: found.append(name) or load_task(name, size=size))
    of_weights = weights.digest
    monkeypatch.setattr(weights, "digest", lambda name: found.append(name) or of_weights(name))
    return found


def looked_up(*asked) -> str:
    """As another process would."""
    digests.forget()
    return task_digest(*asked)


def test_the_laptop_study_is_planned_without_reading_a_task_or_weights(cache, reads, monkeypatch):
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("arrays were read"))
    plan = plan_trials(profile("laptop"))
    assert len(plan) == 1636 and reads == []
    assert "orientation@10000" in {run.spec.task for run in plan}
    assert not cache.exists()


def test_the_known_digests_are_those_of_the_data():
    known = {name: digest for task in embedded_tasks().values() for name, digest in task.digests.items()}
    for name in ("digits", "textures@100"):
        assert known[name] == task_digest(name) == load_task(name).digest
    for backbone in weights.EMBEDDED_NAMES:
        assert weights_digest(backbone) == weights.digest(backbone)


def test_a_folder_is_read_once_and_again_when_a_file_is_added_removed_or_rewritten(cache, folder, reads):
    name = f"folder:{folder}"
    first = looked_up(name, 16)
    assert first == looked_up(name, 16) == load_task(name, size=16).digest
    assert reads == [name] and len(list(cache.iterdir())) == 1
    assert looked_up(name, 8) != first  # another size is another task
    for change in (
        lambda: shutil.copy(folder / "a" / "3.png", folder / "b" / "4.png"),
        lambda: (folder / "a" / "0.png").unlink(),
        lambda: Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "b" / "0.png"),
    ):
        before = looked_up(name, 16)
        change()
        assert looked_up(name, 16) == load_task(name, size=16).digest != before
    count = len(reads)
    os.utime(folder / "b" / "1.png", (1, 1))
    looked_up(name, 16)
    assert len(reads) == count + 1


def test_a_kept_digest_that_is_damaged_or_cannot_be_written_costs_time_alone(cache, folder, reads, monkeypatch):
    name = f"folder:{folder}"
    first = looked_up(name, 16)
    (kept,) = cache.iterdir()
    for text in ("", "[]", "{}", "not JSON"):
        kept.write_text(text)
        assert looked_up(name, 16) == first
    assert len(reads) == 5
    monkeypatch.setenv("PETL_CACHE", str(folder / "a" / "1.png"))
    assert looked_up(name, 16) == first


def test_weights_in_a_file_are_read_once(cache, backbone, reads):
    first = weights_digest(backbone)
    digests.forget()
    assert weights_digest(backbone) == first == weights.digest(backbone)
    assert reads == [backbone, backbone]  # the second by this test


def test_what_is_absent_is_refused_or_counted(cache, tmp_path):
    name = f"folder:{tmp_path / 'nothing'}"
    with pytest.raises(UserError, match="nothing does not exist"):
        task_digest(name)
    assert task_digest(name, absent="count") == ABSENT
    assert weights_digest(str(tmp_path / "none.safetensors"), absent="count") == ABSENT
    assert "nothing" in digests.why_no_task(name)
    with pytest.raises(UserError, match="'ignore'"):
        task_digest("digits", absent="ignore")
