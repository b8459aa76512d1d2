"""Packs of decoded images: what is mapped is what is in the files; whole or not there; one, however many ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from petl_core.data.cache import Listed, Mapped, packed, packed_task
from petl_core.data.decode import Preparation, decode_image, to_square
from petl_core.models.build import create_model
from petl_core.study.measures import interpolation
from petl_core.training.train import Recipe, predict, train
from petl_core.utils import UserError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(folder: Path, count: int, seed: int = 0) -> list[Listed]:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    for i in range(count):
        shape = (int(random.integers(20, 60)), int(random.integers(20, 60)), 3)
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i:03d}.png")
    return [Listed(p.name, i % 3, str(p.stat().st_size), p) for i, p in enumerate(sorted(folder.iterdir()))]


@pytest.mark.parametrize("shape", [(256, 256), (300, 500), (333, 217), (224, 225), (40, 1000)])
def test_the_crop_is_torchvisions(shape: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    bicubic = transforms.InterpolationMode.BICUBIC
    theirs = transforms.Compose([transforms.Resize(256, bicubic), transforms.CenterCrop(224)])(picture)
    assert np.array_equal(to_square(picture, 224, "crop"), np.asarray(theirs).transpose(2, 0, 1))
    assert to_square(picture, 64, "crop").shape == to_square(picture, 64).shape == (3, 64, 64)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_pack_holds_the_decoded_files_in_order(cache: Path, tmp_path: Path, resize: str) -> None:
    prepare = Preparation(resize)
    entries = pictures(tmp_path / "a", 100)  # more than are decoded ahead
    first = packed("a", entries, 16, prepare)
    assert first.ids == tuple(entry.id for entry in entries) and first.labels.tolist() == [i % 3 for i in range(100)]
    for i in (0, 63, 64, 99):
        assert np.array_equal(first.images[i].transpose(2, 0, 1), decode_image(entries[i].source, 16, prepare))
    for entry in entries:
        entry.source.unlink()
    assert packed("a", entries, 16, prepare).digest == first.digest  # from the cache: the files are not needed
    with pytest.raises(UserError, match="does not exist"):
        packed("a", entries, 16, Preparation(resize, upright=True))  # another way is another pack


def test_a_changed_file_is_another_pack(cache: Path, tmp_path: Path) -> None:
    entries = pictures(tmp_path / "a", 5)
    before = packed("a", entries, 8)
    after = packed("a", pictures(tmp_path / "a", 5, seed=1), 8)
    assert before.digest != after.digest and len(list((cache / "packs").glob("a-8px-*[0-9a-f]"))) == 2


def test_a_damaged_image_leaves_no_pack(cache: Path, tmp_path: Path) -> None:
    entries = pictures(tmp_path / "a", 90)
    file = entries[80].source
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(UserError, match=rf"{file.name} is damaged or truncated"):
        packed("a", entries, 8)
    assert [p.name for p in (cache / "packs").iterdir() if p.is_dir()] == []


def test_mapped_arrays_are_indexed_as_one_tensor() -> None:
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8) for n in (3, 1, 5)]
    mapped, whole = Mapped(arrays), torch.from_numpy(np.concatenate(arrays)).permute(0, 3, 1, 2)
    assert mapped.shape == whole.shape and len(mapped) == 9 and mapped.dtype == whole.dtype
    for index in (torch.tensor([8, 0, 3, 3, 2, 4]), slice(2, 7), slice(None), slice(8, 1, -3), torch.tensor([]).long()):
        if not (isinstance(index, slice) and (index.step or 1) < 0):
            assert torch.equal(mapped[index], whole[index])
    assert torch.equal(mapped[5], whole[5]) and torch.equal(mapped[torch.arange(9) % 2 == 0], whole[::2])
    with pytest.raises(IndexError):
        mapped[torch.tensor([9])]


def test_a_packed_task_with_a_split_of_some_classes(cache: Path, tmp_path: Path) -> None:
    parts = [
        packed("a", pictures(tmp_path / "a", 12), 32),
        packed("b", pictures(tmp_path / "b", 6, 1), 32),
    ]
    about = {"parts": parts, "splits": {"train800": 6, "val200": 3, "test": 3, "r": 6}}
    task = packed_task("x", "other", ("p", "q", "s"), **about, allowed={"r": np.array([0, 2])})
    assert tuple(task.splits) == ("train800", "val200", "train1000", "test", "r") and task.image_size == 32
    assert torch.equal(task.splits["train1000"], torch.arange(9))
    images, labels, ids = task.split("r")
    assert images.shape == (6, 3, 32, 32) and labels.tolist() == [0, 1, 2, 0, 1, 2] and ids[0] == "000.png"
    assert task.digest == packed_task("x", "other", ("p", "q", "s"), **about, allowed={"r": np.array([0, 2])}).digest
    assert task.digest != packed_task("x", "other", ("p", "q", "s"), **about, allowed={"r": np.array([0, 1])}).digest

    logits = torch.tensor([[0.0, 9.0, 1.0]])
    assert task.restrict("test", logits) is logits
    assert task.restrict("r", logits).tolist() == [[0.0, -float("inf"), 1.0]]
    run = train(create_model("mini", "lora", num_classes=3), task, Recipe(epochs=1, lr=1e-5), evaluate_on="r")
    assert not run.diverged and (run.logits[:, 1] == np.finfo(np.float16).min).all() and run.logits.argmax(1).max() == 2
    model = create_model("mini", "linear", num_classes=3)
    torch.nn.init.constant_(model.head.bias, 0.0)
    with torch.no_grad():
        model.head.bias[1] = 100.0  # the class that r cannot hold
    found = interpolation(model, task, Recipe())["both"]
    assert predict(model, images).argmax(1).eq(1).all()
    right = task.restrict("r", predict(model, images)).argmax(1).eq(labels).double().mean()
    assert found["r"][-1] == pytest.approx(100 * float(right), abs=1e-3) and found["test"][-1] == pytest.approx(
        100 / 3, abs=1e-3
    )


@pytest.mark.slow
def test_processes_that_ask_at_once_get_one_pack(cache: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "a", 40)
    script = (
        "import sys; from pathlib import Path; from petl_core.data.cache import Listed, packed\n"
        "files = sorted(Path(sys.argv[1]).iterdir())\n"
        "print(packed('a', [Listed(p.name, 0, '', p) for p in files], 64).digest)\n"
    )
    environment = {**os.environ, "PETL_CACHE": str(cache)}
    command = [sys.executable, "-c", script, str(tmp_path / "a")]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0] and len(set(answers)) == 1 and answers[0].strip()
    assert len([p for p in (cache / "packs").iterdir() if p.is_dir()]) == 1
