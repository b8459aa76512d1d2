"""Where the images lie: streamed or resident, the run is the same; images may be mapped from a file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small import easy_task, tiny_model

from petl_core.data.cache import Mapped
from petl_core.training import feeds
from petl_core.training.recipe import Recipe
from petl_core.training.train import train

RECIPE = Recipe(lr=1e-2, epochs=2, batch_size=16, drop_path=0.2, flip=True)


@pytest.mark.parametrize("method", ["lora", "linear"])
@pytest.mark.parametrize("most", [None, 50])
def test_streamed_images_give_the_same_bits(tmp_path, monkeypatch, method: str, most: int | None) -> None:
    recipe = RECIPE if method == "lora" else Recipe(lr=1e-2, epochs=2)
    task = easy_task()
    resident = train(tiny_model(method), task, recipe, max_train=most, max_evaluate=30)
    np.save(tmp_path / "images.npy", task.images.permute(0, 2, 3, 1).numpy())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    task = dataclasses.replace(task, images=Mapped([mapped[:50], mapped[50:]]))
    monkeypatch.setattr(type(task), "split", None)  # copies all images of a split
    streamed = train(tiny_model(method), task, recipe, max_train=most, max_evaluate=30)
    assert streamed.logits.tobytes() == resident.logits.tobytes()
    assert streamed.ids == resident.ids
    assert streamed.history == resident.history


def test_only_images_that_fit_are_resident(monkeypatch) -> None:
    image = 3 * 16 * 16
    monkeypatch.setattr(feeds, "memory", lambda device: 2.0 * 119 * image)
    for most, resident in ((None, False), (79, True)):  # of 80 training images, and 40 to be answered
        for feed, _, _ in feeds.feeds(easy_task(), [("train1000", most), ("test", 1000)], torch.device("cpu")):
            assert (feed.rows is None) == resident


def test_a_stream_is_gathered_ahead_in_order_and_its_errors_arrive() -> None:
    task = easy_task()
    index = task.splits["train1000"]
    stream = feeds.Feed(task.images, torch.device("cpu"), index)
    parts = list(torch.randperm(80, generator=torch.Generator().manual_seed(0)).split(7))
    for part, images in zip(parts, stream.batches(parts), strict=True):
        assert torch.equal(images, task.images[index[part]])
    with pytest.raises(IndexError):
        list(stream.batches([torch.tensor([80])]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_streamed_images_give_the_same_bits_on_cuda(monkeypatch) -> None:
    resident = train(tiny_model().cuda(), easy_task(), RECIPE)
    monkeypatch.setattr(feeds, "RESIDENT", 0.0)
    streamed = train(tiny_model().cuda(), easy_task(), RECIPE)
    assert streamed.logits.tobytes() == resident.logits.tobytes()
