"""Packs from copies laid out as on the Hugging Face Hub: real files, read by ``datasets`` from a local folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petl_core.data import array_pack
from petl_core.data.vtab import VTAB_SIZES
from petl_make.vtab import check as vtab1k
from petl_make.vtab import prepare as vtab_prepare

datasets = pytest.importorskip("datasets", reason="the extra 'data' is not installed: make test-data runs this")

TEST = 12


def picture(number: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Smooth noise, in which JPEG leaves its blocks; no two alike."""
    small = np.random.default_rng(number).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, **how: object) -> bytes:
    image.save(buffer := io.BytesIO(), **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def web_dataset(folder: Path, splits: dict[str, int], **how: object) -> Path:
    """As clip-benchmark lays them out: <split>/<shard>.tar with s0000000.webp and s0000000.cls."""
    first = 0
    for split, count in splits.items():
        (folder / split).mkdir(parents=True)
        with tarfile.open(folder / split / "0.tar", "w") as archive:
            for number in range(first, first + count):
                members = {"webp": encoded(picture(number), format="WEBP", **how), "cls": str(number % 10).encode()}
                for suffix, content in members.items():
                    member = tarfile.TarInfo(f"s{number:07d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        first += count
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(VTAB_SIZES, "svhn", VTAB_SIZES["svhn"]._replace(test=TEST))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


def prepare(tmp_path: Path, repo: object, *more: str) -> int:
    told = ["--out", str(tmp_path / "out"), "--source", "hf", "--task", "svhn", "--data-dir", str(tmp_path / "cache")]
    return vtab_prepare.main([*told, "--hf-repo", f"svhn={repo}", *more])


def test_a_web_dataset_of_lossless_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo = web_dataset(tmp_path / "repo", {"train": 1005, "test": TEST}, lossless=True)
    assert prepare(tmp_path, repo) == 0
    said = capsys.readouterr().out
    assert "svhn: 800 + 200 + 12 images, 10 classes, 32 x 32, from 1,012 WEBP" in said and "CAUTION" not in said
    assert "training images are not always those of VTAB-1K" in said
    pack = array_pack.verify(tmp_path / "out" / "svhn")
    assert pack.meta["repository"] == str(repo)
    assert pack.meta["parts"] == {"train": "train[:800]", "val": "train[800:1000]", "test": "test"}
    for split, first, count, name in (("train", 0, 800, "train/000000"), ("val", 800, 200, "train/000800")):
        part = pack.splits[split]
        assert np.array_equal(part.images, np.stack([np.asarray(picture(first + i)) for i in range(count)]))
        assert part.labels.tolist() == [(first + i) % 10 for i in range(count)] and part.ids[0] == name
    assert np.array_equal(pack.splits["test"].images[3], np.asarray(picture(1008)))
    assert vtab1k.main([str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["svhn"]


def test_a_lossy_copy_of_a_lossless_task_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, web_dataset(tmp_path / "repo", {"train": 1000, "test": TEST}, quality=40)) == 0
    said = capsys.readouterr().out
    assert "from 1,012 lossy WEBP" in said
    assert "CAUTION  the images went through JPEG, VTAB-1K's did not" in said
    assert vtab1k.main([str(tmp_path / "out")]) == 1


def test_a_table_with_a_validation_split(tmp_path: Path) -> None:
    (tmp_path / "repo" / "data").mkdir(parents=True)
    classes = datasets.ClassLabel(names=[f"digit {i}" for i in range(10)])
    features = datasets.Features({"image": datasets.Image(), "label": classes})
    first = 0
    for split, count in {"train": 810, "validation": 203, "test": TEST}.items():
        rows = [
            {"image": {"bytes": encoded(picture(i), format="PNG"), "path": None}, "label": i % 10}
            for i in range(first, first + count)
        ]
        table = datasets.Dataset.from_list(rows, features=features)
        table.to_parquet(tmp_path / "repo" / "data" / f"{split}-00000-of-00001.parquet")
        first += count
    assert prepare(tmp_path, tmp_path / "repo") == 0
    pack = array_pack.verify(tmp_path / "out" / "svhn")
    assert pack.meta["parts"] == {"train": "train[:800]", "val": "validation[:200]", "test": "test"}
    assert pack.meta["classes"] == [f"digit {i}" for i in range(10)]
    assert np.array_equal(pack.splits["val"].images[0], np.asarray(picture(810)))


def test_too_few_rows_and_no_test_split_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, web_dataset(tmp_path / "few", {"train": 900, "test": 11}, lossless=True)) == 1
    assert "100 images in val; VTAB-1K's svhn has 200; 11 images in test" in capsys.readouterr().err
    assert prepare(tmp_path, web_dataset(tmp_path / "none", {"train": 20}, lossless=True)) == 1
    assert "has no split test; name another copy with --hf-repo" in capsys.readouterr().err


def test_without_a_network_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, "clip-benchmark/wds_vtab-svhn") == 1
    said = capsys.readouterr().err
    assert "datasets could not open clip-benchmark/wds_vtab-svhn" in said and "check its name and the network" in said
