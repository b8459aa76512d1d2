"""The ViT against timm's, on random and on real weights; its sites; drop path."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from petl_core import create_model
from petl_core.models.weights import Weights, config_of, load_weights
from petl_core.vit import ATTENTION_SITES, BLOCK_SITES, MLP_SITES, MODEL_SITES, ViT, ViTConfig, relative_bias

SMALL = ViTConfig(image_size=16, patch_size=8, width=32, depth=2, heads=4)


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(SMALL, 3).eval()


def theirs_and_ours(name: str, classes: int = 10) -> tuple[Any, ViT]:
    """timm's model at 224 px with random weights, none of them at a neutral value, and ours with the same."""
    import timm

    torch.manual_seed(0)
    with torch.device("meta"):  # their random start takes longer than the test
        theirs = timm.create_model(name, img_size=224, num_classes=classes)
        ours = ViT(config_of(name, 224), classes)
    theirs, ours = theirs.to_empty(device="cpu").eval(), ours.to_empty(device="cpu").eval()
    for key, parameter in theirs.named_parameters():
        factor = parameter.ndim == 1 and key.endswith(("weight", "gamma"))  # of norms and LayerScale
        nn.init.normal_(parameter, 1.0 if factor else 0.0, 0.2 if parameter.ndim == 1 else 0.02)
    load_weights(ours, Weights(theirs.state_dict(), "timm's model"), keep_head=True)
    return theirs, ours


@pytest.mark.filterwarnings("ignore:the weights of")
@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "vit_base_patch16_clip_224.openai", "vit_small_patch14_dinov2"],
)
@torch.no_grad()
def test_equals_timm(name: str) -> None:
    theirs, ours = theirs_and_ours(name)
    images = torch.randn(1, 3, 224, 224)
    features = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
    torch.testing.assert_close(ours.forward_features(images), features, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)


def test_gradients_equal_timm() -> None:
    theirs, ours = theirs_and_ours("vit_tiny_patch16_224")
    images, labels = torch.randn(2, 3, 224, 224), torch.tensor([1, 7])
    for model in (theirs, ours):
        nn.functional.cross_entropy(model(images), labels).backward()
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5)
    assert max(float(grad.abs().max()) for grad in expected.values()) > 0.01


@torch.no_grad()
def test_equals_timm_on_real_weights(petl_data: Path) -> None:
    import timm

    path = petl_data / "vit_tiny_patch16_224.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path}")
    theirs = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(path)).eval()
    ours = create_model("vit_tiny_patch16_224", "linear", pretrained=path, keep_head=True).eval()
    images = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)
    assert ours(images).std() > 0.1


# N = 5 tokens (one class token, 2 x 2 patches), D = 32; images (B, 3, 16, 16). Shapes of y and x without the batch.
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "patches": ((4, 32), (3, 16, 16)),
    "embed": ((5, 32), (4, 32)),
    "norm": ((5, 32), (5, 32)),
    "features": ((32,), (5, 32)),
    "qkv": ((5, 96), (5, 32)),
    "heads": ((5, 32), (5, 96)),
    "proj": ((5, 32), (5, 32)),
    "fc1": ((5, 128), (5, 32)),
    "act": ((5, 128), (5, 128)),
    "fc2": ((5, 32), (5, 128)),
    **dict.fromkeys(BLOCK_SITES, ((5, 32), (5, 32))),
}
ALL_SITES = (*MODEL_SITES, *BLOCK_SITES, *ATTENTION_SITES, *MLP_SITES)


def edits_at(vit: ViT, site: str) -> list[Any]:
    """The list of edits of a site: of the model, or of block 1."""
    block = vit.blocks[1]
    for owner in (vit, block, block.attn, block.mlp):
        if site in owner.sites:
            return owner.sites[site]
    raise AssertionError(f"no site {site}")


def test_every_site_is_described() -> None:
    assert set(SHAPES) == set(ALL_SITES)
    assert all(f"``{site}``" in (__import__("petl_core.vit").vit.__doc__ or "") for site in ALL_SITES)


@pytest.mark.parametrize("site", ALL_SITES)
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_an_edit_sees_what_the_site_promises_and_acts(vit: ViT, site: str, batch: int) -> None:
    images = torch.randn(batch, 3, 16, 16)
    before, seen = vit(images), []

    def edit(y: Tensor, x: Tensor) -> Tensor:
        seen.append((tuple(y.shape), tuple(x.shape)))
        return y + torch.randn_like(y)

    edits_at(vit, site).append(edit)
    after = vit(images)
    y_shape, x_shape = SHAPES[site]
    assert seen == [((batch, *y_shape), (batch, *x_shape))]
    assert not torch.allclose(before, after)


@torch.no_grad()
def test_edits_act_in_the_order_of_the_list(vit: ViT) -> None:
    images = torch.randn(2, 3, 16, 16)
    edits_at(vit, "features").extend([lambda y, x: y * 0.0, lambda y, x: y + 1.0])
    torch.testing.assert_close(vit.forward_features(images), torch.ones(2, 32))


@torch.no_grad()
def test_a_score_bias_can_hide_tokens(vit: ViT) -> None:
    images = torch.randn(2, 3, 16, 16)
    other = images.clone()
    other[:, :, :8, :8] = 0.0  # the first patch
    hide = torch.zeros(1, 1, 5, 5)
    hide[..., 1] = -torch.inf
    for block in vit.blocks:
        block.attn.score_biases = [lambda x: None, lambda x: hide]
    torch.testing.assert_close(vit(images), vit(other))
    for block in vit.blocks:
        block.attn.score_biases.clear()
    assert not torch.allclose(vit(images), vit(other))


def test_drop_path_grows_with_depth_and_keeps_the_mean() -> None:
    vit = ViT(ViTConfig(16, 8, 32, 3, 4), 2)
    vit.set_drop_path(0.4)
    assert [block.drop_path1.rate for block in vit.blocks] == pytest.approx([0.0, 0.2, 0.4])
    assert [block.drop_path2.rate for block in vit.blocks] == pytest.approx([0.0, 0.2, 0.4])
    torch.manual_seed(0)
    drop, ones = vit.blocks[2].drop_path1, torch.ones(4000, 2, 3)
    out = drop(ones)
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 1 / 0.6])
    assert (out == out[:, :1, :1]).all(), "an image keeps or loses its whole branch"
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(ones), ones)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_rate_is_checked(vit: ViT, rate: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        vit.set_drop_path(rate)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"image_size": 20, "patch_size": 8}, "not a multiple of patch_size 8; use 16"),
        ({"width": 30, "heads": 4}, "width 30 does not divide into 4 heads"),
    ],
)
def test_impossible_shapes_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTConfig(**fields)


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes is 0"):
        ViT(SMALL, 0)


def test_parameter_count_of_vit_base() -> None:
    with torch.device("meta"):
        vit = ViT(ViTConfig(), 1)
    assert sum(p.numel() for name, p in vit.named_parameters() if not name.startswith("head.")) == 85_798_656


def test_biases_of_relative_positions_are_those_of_the_distances() -> None:
    """Written out from the table: rows of distances, then from, to and at the class token; later tokens have none."""
    grid, heads = 3, 2
    table, side = torch.randn((2 * grid - 1) ** 2 + 3, heads), 2 * grid - 1
    bias = relative_bias(table, 1 + grid**2 + 1)
    for i, j in itertools.product(range(grid**2), repeat=2):
        rows, columns = i // grid - j // grid, i % grid - j % grid
        assert torch.equal(bias[:, 1 + i, 1 + j], table[(rows + grid - 1) * side + columns + grid - 1])
    assert torch.equal(bias[:, 0, 1], table[-3]) and torch.equal(bias[:, 1, 0], table[-2])
    assert torch.equal(bias[:, 0, 0], table[-1]) and not bias[:, -1].any() and not bias[:, :, -1].any()
    assert relative_bias(torch.ones(4, heads), 2).shape == (heads, 2, 2)  # one patch
