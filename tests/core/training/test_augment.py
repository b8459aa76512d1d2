"""Augmentation: each operation beside Pillow's, what is drawn, and what a run makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from small import easy_task, tiny_model
from timm.data import auto_augment
from torch import Tensor

from petl_core.training import augment
from petl_core.training.augment import Augmentation, Normaliser, augmentation_of, crop
from petl_core.training.evaluation import predict
from petl_core.training.randaugment import OPERATIONS, operate
from petl_core.training.recipe import Recipe
from petl_core.training.train import train
from petl_core.utils import UserError

SIZE = 64
FILL = torch.tensor([124.0, 116.0, 104.0])


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.fromarray(data.astronaut()).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def differences(got: Tensor, expected: Image.Image) -> np.ndarray:
    return np.abs(got.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected).astype(int))


@pytest.mark.parametrize("box", [(0, 0, 64, 64), (3, 10, 20, 31), (5, 0, 59, 64), (40, 40, 9, 11)])
@pytest.mark.parametrize("size", [24, 48])
def test_a_crop_is_pillows_bicubic_resizing(photograph: Image.Image, box: tuple[int, ...], size: int) -> None:
    top, left, height, width = box
    expected = photograph.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BICUBIC)
    images, boxes = tensor(photograph)[None].repeat(3, 1, 1, 1), torch.tensor([box] * 3)
    mirror, turn = torch.tensor([False, True, False]), torch.tensor([False, False, True])
    plain, mirrored, turned = crop(images, boxes, size, mirror, turn)
    assert differences(plain, expected).max() <= 1  # Pillow rounds between rows and columns
    assert torch.equal(mirrored, plain.flip(-1))
    assert torch.equal(turned, plain.flip(-2))


def pillows(name: str, image: Image.Image, level: float, sign: float) -> Image.Image:
    """timm's operation at this level (0 to 1), in Pillow."""
    operation = auto_augment.NAME_TO_OP[name]
    how = {"resample": Image.Resampling.BICUBIC, "fillcolor": tuple(int(v) for v in FILL)}
    values = {
        "Rotate": 30 * level * sign,
        "PosterizeIncreasing": 4 - int(4 * level),
        "SolarizeIncreasing": 256 - int(256 * level),
        "SolarizeAdd": int(110 * level),
        "ShearX": 0.3 * level * sign,
        "ShearY": 0.3 * level * sign,
        "TranslateXRel": 0.45 * level * sign,
        "TranslateYRel": 0.45 * level * sign,
    }
    if name in values:
        return operation(image, values[name], **how)
    if name in ("AutoContrast", "Equalize", "Invert"):
        return operation(image, **how)
    return operation(image, max(0.1, 1 + 0.9 * level * sign), **how)


def test_the_operations_are_those_of_timm() -> None:
    assert list(OPERATIONS) == auto_augment._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_pillows(name: str, photograph: Image.Image) -> None:
    signed = OPERATIONS[name]
    dull = photograph.point(lambda v: 30 + v // 2)  # there is contrast to gain
    levels, signs = (0.9, 0.35, 0.99), (1.0, -1.0, -1.0)
    images = tensor(dull)[None].repeat(3, 1, 1, 1)
    level = torch.tensor([v * (s if signed else 1.0) for v, s in zip(levels, signs, strict=True)]).view(-1, 1, 1, 1)
    for got, value, sign in zip(operate(name, images, level, FILL), levels, signs, strict=True):
        gaps = differences(got, pillows(name, dull, value, sign))
        geometric = name.startswith(("Rotate", "Shear", "Translate"))
        assert got.dtype == torch.uint8
        assert (gaps > 0 if geometric else gaps > 1).mean() < (0.9 if geometric else 0.002), (value, gaps.max())
        assert gaps.mean() < (1.5 if geometric else 0.5), value
    assert torch.equal(images[0], tensor(dull))  # what came in is not changed


def clip() -> Augmentation:
    return Augmentation("clip", 40, 32, FILL, torch.device("cpu"), 0)


def test_crops_lie_where_they_may() -> None:
    top, left, height, width = clip().boxes(4000, 40, (0.08, 1.0), (3 / 4, 4 / 3)).unbind(1)
    area, aspect = (height * width) / 1600, width / height
    assert area.min() > 0.05 and area.max() <= 1.0 and abs(area.float().mean() - 0.54) < 0.06
    assert aspect.min() > 0.6 and aspect.max() < 1.6
    assert (top >= 0).all() and (top + height <= 40).all() and (left >= 0).all() and (left + width <= 40).all()
    assert (top + height == 40).any() and (left == 0).any()


@pytest.mark.parametrize(("kind", "turned"), [("crop_flip", 0.0), ("crop_flip_vertical", 0.5)])
def test_half_of_the_images_are_mirrored_and_turned_where_asked(kind: str, turned: float, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(augment, "crop", lambda images, box, size, *flags: drawn.append(flags) or images)
    Augmentation(kind, 40, 32, FILL, torch.device("cpu"), 0)(torch.zeros(4000, 3, 1, 1), lambda images: images)
    for flags, share in zip(drawn[0], (0.5, turned), strict=True):
        assert abs(flags.float().mean() - share) < 0.04


def test_each_image_gets_an_operation_half_of_the_time_twice(monkeypatch) -> None:
    levels: dict[str, list[Tensor]] = {name: [] for name in OPERATIONS}
    monkeypatch.setattr(augment, "operate", lambda name, images, level, fill: levels[name].append(level) or images)
    clip().operated(torch.zeros(4000, 3, 1, 1, dtype=torch.uint8))
    every = {name: torch.cat(of_both).flatten() for name, of_both in levels.items()}
    assert abs(sum(map(len, every.values())) / 4000 - 1) < 0.06
    for name, level in every.items():
        assert abs(len(level) / 4000 - 1 / 15) < 0.02
        assert abs(level.abs().mean() - 0.9) < 0.01 and level.abs().max() <= 1.0
        assert abs((level > 0).float().mean() - (0.5 if OPERATIONS[name] else 1.0)) < 0.15


def test_erasing_puts_noise_into_a_rectangle_of_a_quarter_of_the_images() -> None:
    erased = clip().erased(torch.full((1000, 3, 32, 32), 7.0)) != 7.0
    noise = clip().erased(torch.full((1000, 3, 32, 32), 7.0))[erased]
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
    where = erased.any(1)
    shares = where.flatten(1).float().mean(1)
    assert abs((shares > 0).float().mean() - 0.25) < 0.05
    shares = shares[shares > 0]
    assert shares.min() > 0.01 and shares.max() < 0.36 and abs(shares.mean() - 0.177) < 0.03
    rectangle = where.any(1, keepdim=True) & where.any(2, keepdim=True)
    assert torch.equal(rectangle, where) and torch.equal(erased.all(1), where)


@pytest.mark.parametrize("kind", ["crop_flip", "crop_flip_vertical", "clip"])
def test_equal_calls_give_equal_bits_and_each_kind_its_own(kind: str) -> None:
    recipe = Recipe(lr=1e-2, epochs=2, batch_size=16, drop_path=0.2, augment=kind)
    one, other = (train(tiny_model(), easy_task(), recipe, seed=3) for _ in range(2))
    plain = train(tiny_model(), easy_task(), Recipe(**{**vars(recipe), "augment": "none"}), seed=3)
    assert one.logits.tobytes() == other.logits.tobytes()
    assert one.history == other.history
    assert one.logits.tobytes() != plain.logits.tobytes()


def test_images_larger_than_the_models_are_cropped_in_training_and_at_the_middle_in_evaluation() -> None:
    task, recipe, sizes = easy_task(size=20), Recipe(lr=1e-2, epochs=1, augment="crop_flip"), []
    model = tiny_model()
    model.patch_embed.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[-1]))
    run = train(model, task, recipe)
    assert set(sizes) == {16}
    images = task.split("test")[0]
    middle = predict(model, images[..., 2:18, 2:18], recipe)
    assert np.array_equal(middle.numpy().astype(np.float16), run.logits)
    assert torch.equal(predict(model, images, recipe), middle)
    with pytest.raises(UserError, match="images of 20 px, the model takes 16"):
        train(tiny_model(), task, Recipe())
    with pytest.raises(UserError, match="images of 12 px, the model takes 16"):
        train(tiny_model(), easy_task(size=12), recipe)


def test_what_leaves_an_image_is_filled_with_the_mean() -> None:
    augmentation = augmentation_of(tiny_model(), Recipe(augment="crop_flip"), 20, 0)
    assert augmentation.fill.tolist() == [round(255 * v) for v in (0.4, 0.5, 0.6)]
    assert Normaliser(tiny_model(), Recipe()).mean.tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert augmentation_of(tiny_model(), Recipe(), 16, 0) is None
