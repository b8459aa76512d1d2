"""All nineteen tasks through tensorflow-datasets' own builders, which write and read real files of made-up examples.

Only what the builders download is replaced: thirty examples a split. Encoding, shuffling, cutting, decoding and the
rules for labels are the real ones. ``make test-data`` makes an environment in which these tests run.
"""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from petl_core.data import array_pack
from petl_core.data.vtab import VTAB_SIZES
from petl_core.utils import UserError
from petl_make.vtab import check as vtab1k
from petl_make.vtab import look
from petl_make.vtab import prepare as vtab_prepare
from petl_make.vtab import sources as vtab_sources
from petl_make.vtab import tasks as vtab_tasks
from petl_make.vtab.tasks import TASKS, Cut

WHY = "the extra 'data' is not installed: make test-data runs this"
tfds = pytest.importorskip("tensorflow_datasets", reason=WHY)

EXAMPLES, TRAIN, VAL = 30, 6, 2


def smaller(task: vtab_tasks.VtabTask) -> vtab_tasks.VtabTask:
    """The same task with parts that thirty examples can fill: same splits, same order."""
    val, test = task.cuts["val"], task.cuts["test"]
    at = 20 if val.start else 0
    cuts = {
        "train": Cut(task.cuts["train"].split, 0, TRAIN),
        "val": Cut(val.split, at, at + VAL, EXAMPLES if val.total else None),
        "test": Cut(test.split, 24 if test.start else 0, None, EXAMPLES if test.total else None),
    }
    return dataclasses.replace(task, cuts=cuts)


def made_up(feature: Any, number: int, key: str = "") -> Any:
    """A value that the feature can encode."""
    random = np.random.default_rng([number, len(key)])
    if isinstance(feature, tfds.features.FeaturesDict):
        return {name: made_up(part, number, name) for name, part in feature.items()}
    if isinstance(feature, tfds.features.Sequence):
        inner = feature.feature
        return [made_up(inner, 100 * number + i, key) for i in range(3 + number % 8)]
    if isinstance(feature, tfds.features.BBoxFeature):
        return tfds.features.BBox(0.1, 0.1, 0.9, 0.9)
    if isinstance(feature, tfds.features.Image):
        height, width, channels = feature.shape
        shape = (height or 20 + number % 3, width or 24, channels)
        return random.integers(0, 2 if shape == (64, 64, 1) else 256, shape).astype(np.uint8)
    if isinstance(feature, tfds.features.ClassLabel):
        return number % feature.num_classes
    if isinstance(feature, tfds.features.Text):
        return f"{key}{number}"
    return (random.random(feature.shape) * 12).astype(np.float32)


def splits_of(name: str) -> set[str]:
    return {cut.split for task in TASKS.values() if task.tfds == name for cut in task.cuts.values()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, str]]:
    """All packs, made by the command; the builders' folder; what the command printed."""
    out, data = tmp_path_factory.mktemp("packs"), tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        for name in {task.tfds for task in TASKS.values()}:
            splits = splits_of(name)

            def generators(self: Any, manager: Any, splits: set[str] = splits) -> dict[str, Any]:
                def examples(offset: int) -> Iterator[tuple[str, Any]]:
                    for number in range(EXAMPLES):
                        yield str(number), made_up(self.info.features, offset + number)

                return {split: examples(1000 * i) for i, split in enumerate(sorted(splits))}

            patch.setattr(tfds.builder_cls(re.split("[:/]", name)[0]), "_split_generators", generators)
        for name, task in TASKS.items():
            patch.setitem(TASKS, name, smaller(task))
            patch.setitem(VTAB_SIZES, name, VTAB_SIZES[name]._replace(test=EXAMPLES - TASKS[name].cuts["test"].start))
        patch.setattr(look, "TRAIN", TRAIN)
        patch.setattr(look, "VAL", VAL)
        printed = io.StringIO()
        patch.setattr(sys, "stdout", printed)
        assert vtab_prepare.main(["--out", str(out), "--data-dir", str(data)]) == 0
        patch.setattr(sys, "stdout", sys.__stdout__)
        yield out, data, printed.getvalue()


def test_all_nineteen_are_packed(made: tuple[Path, Path, str]) -> None:
    out, _, printed = made
    assert sorted(path.name for path in out.iterdir()) == sorted(TASKS)
    assert "19 of 19 tasks are in" in printed
    assert "svhn: 6 + 2 + 30 images, 10 classes, 32 x 32, from 38 PNG" in printed
    assert "dsprites_loc: 6 + 2 + 6 images, 16 classes, 64 x 64 grey, from 14 PNG" in printed
    assert "dmlab: 6 + 2 + 30 images, 6 classes, 480 x 360, from 38 JPEG" in printed
    assert "sun397: 6 + 2 + 30 images, 397 classes, 224 x 224 (resized)" in printed


@pytest.mark.parametrize("name", TASKS)
def test_a_pack_is_what_tensorflow_datasets_reads(made: tuple[Path, Path, str], name: str) -> None:
    out, data, _ = made
    task, pack = TASKS[name], array_pack.verify(out / name)
    builder = tfds.builder(task.tfds, data_dir=data)
    assert pack.meta["builder"] == builder.info.full_name and len(pack.meta["classes"]) == VTAB_SIZES[name].classes
    for part, cut in task.cuts.items():
        whole = list(tfds.as_numpy(builder.as_dataset(split=cut.split, shuffle_files=False)))
        wanted, got = whole[cut.start : cut.stop], pack.splits[part]
        assert got.ids.tolist() == [f"{cut.split}/{cut.start + i:06d}" for i in range(len(wanted))]
        assert got.labels.tolist() == [task.label(example) for example in wanted]
        assert got.labels.min() >= 0 and got.labels.max() < VTAB_SIZES[name].classes
        for image, example in zip(got.images, wanted, strict=True):
            original = example["image"] * (255 if task.binary else 1)
            if pack.meta["resized_to"]:
                picture = Image.fromarray(original)
                original = np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC))
            if "JPEG" in pack.meta["formats"]:  # TensorFlow decodes it less exactly than Pillow
                assert np.abs(image.astype(int) - original.astype(int)).mean() < 3
            else:
                assert np.array_equal(image, original)


def test_the_parts_do_not_overlap(made: tuple[Path, Path, str]) -> None:
    for name in TASKS:
        ids = [part.ids.tolist() for part in array_pack.read(made[0] / name).splits.values()]
        assert len({name for part in ids for name in part}) == sum(map(len, ids)), name


def test_the_check_reads_packs(made: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert vtab1k.main([str(made[0])]) == 0
    said = capsys.readouterr().out
    assert "19 tasks, 0 with faults" in said and "dsprites_ori: train 6 + val 2 + test 6; 16 classes; 14 PNG\n" in said


def test_a_second_run_has_nothing_to_do(made: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    out, data, _ = made
    shutil.rmtree(out / "kitti")
    assert vtab_prepare.main(["--out", str(out), "--data-dir", str(data)]) == 0
    said = capsys.readouterr().out
    assert said.count("is there already") == 18 and "kitti: 6 + 2 + 30 images" in said


def test_another_size_of_a_split_is_refused(made: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = TASKS["svhn"].cuts | {"val": TASKS["svhn"].cuts["val"]._replace(total=31)}
    monkeypatch.setitem(TASKS, "svhn", dataclasses.replace(TASKS["svhn"], cuts=cuts))
    with pytest.raises(UserError, match=r"svhn_cropped/.* has 30 images in train; VTAB's parts are cut from 31"):
        vtab_sources.TfdsSource("svhn", str(made[1]))
