"""VTAB-1K's tasks as data: the cuts and the rules for labels of VTAB's own readers."""

from __future__ import annotations

import numpy as np
import pytest

from petl_core.data.vtab import VTAB_SIZES
from petl_core.utils import UserError
from petl_make.vtab.tasks import TASKS, bin_of, closest_object, closest_vehicle, find, objects

CUTS = {  # as VTAB's readers cut tensorflow-datasets' splits: training, validation, test
    "caltech101": ("train[:800]", "train[2754:2954]", "test"),
    "cifar": ("train[:800]", "train[45000:45200]", "test"),
    "dtd": ("train[:800]", "validation[:200]", "test"),
    "oxford_flowers102": ("train[:800]", "validation[:200]", "test"),
    "oxford_iiit_pet": ("train[:800]", "train[2944:3144]", "test"),
    "svhn": ("train[:800]", "train[65931:66131]", "test"),
    "sun397": ("train[:800]", "validation[:200]", "test"),
    "patch_camelyon": ("train[:800]", "validation[:200]", "test"),
    "eurosat": ("train[:800]", "train[16200:16400]", "train[21600:]"),
    "resisc45": ("train[:800]", "train[18900:19100]", "train[25200:]"),
    "diabetic_retinopathy": ("train[:800]", "validation[:200]", "test"),
    "clevr_count": ("train[:800]", "train[63000:63200]", "validation"),
    "clevr_dist": ("train[:800]", "train[63000:63200]", "validation"),
    "dmlab": ("train[:800]", "validation[:200]", "test"),
    "kitti": ("train[:800]", "validation[:200]", "test"),
    "dsprites_loc": ("train[:800]", "train[589824:590024]", "train[663552:]"),
    "dsprites_ori": ("train[:800]", "train[589824:590024]", "train[663552:]"),
    "smallnorb_azi": ("train[:800]", "test[:200]", "test[12150:]"),
    "smallnorb_ele": ("train[:800]", "test[:200]", "test[12150:]"),
}


@pytest.mark.parametrize("name", CUTS)
def test_the_parts_are_those_of_vtabs_readers(name: str) -> None:
    assert tuple(str(TASKS[name].cuts[part]) for part in ("train", "val", "test")) == CUTS[name]


def test_the_parts_add_up() -> None:
    """A test part that is cut from a split of known size has the standard's number of images."""
    assert list(CUTS) == list(TASKS) == list(VTAB_SIZES)
    cut = {name: task.cuts["test"] for name, task in TASKS.items() if task.cuts["test"].start}
    assert len(cut) == 6
    for name, test in cut.items():
        assert test.total is not None and test.total - test.start == VTAB_SIZES[name].test, name


def test_labels_of_structured_tasks() -> None:
    def clevr(*depths: float) -> dict:
        return {"objects": {"pixel_coords": np.array([[1, 2, depth] for depth in depths], np.float32)}}

    def kitti(*vehicles: tuple[int, float]) -> dict:
        kinds = np.array([kind for kind, _ in vehicles], dtype=np.int64)
        places = np.array([[0, 0, z] for _, z in vehicles], dtype=np.float32).reshape(-1, 3)
        return {"objects": {"type": kinds, "location": places}}

    assert [objects(clevr(*range(1, n + 1))) for n in (3, 7, 10)] == [0, 4, 7]
    assert [closest_object(clevr(12, depth, 11)) for depth in (7.9, 8.0, 8.1, 8.7, 9.2, 9.9, 10.5)] == [
        *(0, 0, 1, 2, 3, 4, 5)
    ]
    assert closest_vehicle(kitti()) == 3 and closest_vehicle(kitti((3, 5.0), (7, 2.0))) == 3
    assert [closest_vehicle(kitti((0, 50.0), (2, z), (4, 1.0))) for z in (7.9, 8.5, 21.0)] == [0, 1, 2]
    assert bin_of(0.5, (0, 1)) == 0
    assert [TASKS["dsprites_ori"].label({"label_orientation": v}) for v in (0, 2, 3, 4, 5, 39)] == [0, 0, 1, 1, 2, 15]
    assert [TASKS["dsprites_loc"].label({"label_x_position": v}) for v in (0, 1, 2, 31)] == [0, 0, 1, 15]
    assert [TASKS["dsprites_ori"].hub_label(v) for v in (2, 3, 39)] == [0, 1, 15]
    assert TASKS["smallnorb_azi"].label({"label_azimuth": np.int64(17)}) == 17


def test_an_unknown_task_names_the_closest() -> None:
    with pytest.raises(UserError, match=r"'clevr_cuont'.* clevr_count"):
        find("clevr_cuont")
