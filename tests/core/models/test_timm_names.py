"""timm's names: what they stand for, and what is said of those that our ViT cannot express."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm.layers import RmsNorm

from petl_core import create_model
from petl_core.models import hub
from petl_core.models.timm_names import canonical, timm_state
from petl_core.models.weights import Weights, config_of, digest, load_weights
from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig


def test_the_default_weights_decide_mean_and_deviation() -> None:
    assert config_of("vit_tiny_patch16_224") == ViTConfig(224, 16, 192, 12, 3)
    assert config_of("vit_base_patch16_224.mae").mean == pytest.approx((0.485, 0.456, 0.406))


def test_clip_and_dinov2() -> None:
    clip = config_of("vit_base_patch16_clip_quickgelu_224.openai")
    assert (clip.pre_norm, clip.quick_gelu, clip.norm_eps, clip.layer_scale) == (True, True, 1e-5, False)
    assert clip.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    dino = config_of("vit_base_patch14_dinov2")
    assert (dino.image_size, dino.patch_size, dino.layer_scale) == (518, 14, True)
    assert config_of("vit_base_patch14_dinov2", 224).grid == 16


def test_clip_with_the_wrong_activation_is_pointed_out() -> None:
    from petl_core.models.timm_names import timm_config

    timm_config.cache_clear()
    with pytest.warns(UserWarning, match="vit_base_patch16_clip_quickgelu_224.openai"):
        assert not config_of("vit_base_patch16_clip_224.openai").quick_gelu


@pytest.mark.parametrize(
    ("name", "differences"),
    [
        ("resnet18", ["ResNet", "no ViT"]),
        ("swin_tiny_patch4_window7_224", ["SwinTransformer", "no ViT"]),
        ("cait_xxs24_224", ["Cait", "no ViT"]),
        ("deit_tiny_distilled_patch16_224", ["distillation token"]),
        ("vit_small_patch16_18x2_224", ["branches in parallel"]),
        ("vit_tiny_r_s16_p8_224", ["a stem of convolutions"]),
        ("vit_base_patch16_rpn_224", ["a norm after each branch"]),
        ("vit_dwee_patch16_reg1_gap_256", ["differential attention"]),
        ("vit_relpos_small_patch16_224", ["relative positions"]),
        ("vit_huge_patch16_sapiens2", ["RMSNorm", "norms of queries", "fewer heads", "not square"]),
        ("vit_so400m_patch14_siglip_384", ["384 px", "patch size 14"]),
        ("vit_so150m_patch16_reg4_map_256", ["leaves registers out"]),
        ("vit_pe_core_gigantic_patch14_448", ["MLP of another width"]),
    ],
)
def test_what_cannot_be_expressed_is_named(name: str, differences: list[str]) -> None:
    with pytest.raises(UserError, match="cannot express") as caught:
        config_of(name)
    for difference in differences:
        assert difference in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("vit_small_patch14_reg4_dinov2", {"registers": 4, "position": "patches", "layer_scale": True}),
        ("vit_base_patch16_siglip_224", {"class_token": False, "pool": "attention"}),
        ("vit_small_patch16_dinov3", {"rotary": "dinov3", "position": "none", "registers": 4, "qkv_bias": "none"}),
        ("eva02_tiny_patch14_224", {"rotary": "axial", "rotary_grid": 16, "qkv_bias": "qv", "gated": True}),
        ("beit_base_patch16_224", {"relative_position": True, "qkv_bias": "qv", "final_norm": "pooled"}),
    ],
)
def test_what_sets_todays_vits_apart_is_read(name: str, fields: dict[str, Any]) -> None:
    config = config_of(name)
    assert {field: getattr(config, field) for field in fields} == fields


def test_an_image_size_that_relative_positions_do_not_have_is_refused() -> None:
    held, larger = config_of("beit_base_patch16_224", 32), config_of("beit_base_patch16_224", 48)
    with torch.device("meta"):
        state = ViT(replace(held, depth=1), 2).state_dict()
    with pytest.raises(UserError, match="relative positions are not resized"):
        load_weights(ViT(replace(larger, depth=1), 2), Weights(state, "the weights"))


def test_only_the_bias_of_keys_may_be_missing_from_parts() -> None:
    ones = {f"blocks.0.attn.{part}_proj.{kind}": torch.ones(2, 2) for part in "qkv" for kind in ("weight", "bias")}
    del ones["blocks.0.attn.k_proj.bias"]
    bias = canonical(ones)["blocks.0.attn.qkv.bias"]
    assert set(canonical(ones)) == {"blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias"}
    assert bias.chunk(3)[0].all() and not bias.chunk(3)[1].any() and bias.chunk(3)[2].all()
    del ones["blocks.0.attn.v_proj.weight"]
    assert {"blocks.0.attn.q_proj.weight", "blocks.0.attn.k_proj.weight"} < set(canonical(ones))


def test_the_way_back_refuses_what_timm_has_no_place_for() -> None:
    vit = ViT(replace(config_of("eva02_tiny_patch14_224", 28), depth=1), 2)
    assert "blocks.0.attn.q_bias" in timm_state(vit, "eva02_tiny_patch14_224")
    torch.nn.init.ones_(vit.blocks[0].attn.qkv.bias)
    with pytest.raises(UserError, match=r"no place for blocks\.0\.attn\.qkv\.bias"):
        timm_state(vit, "eva02_tiny_patch14_224")


@pytest.mark.parametrize(
    ("argument", "difference"),
    [
        ({"qk_norm": True}, "norms of queries and keys"),
        ({"img_size": (224, 192)}, "not square"),
        ({"patch_size": (16, 8)}, "patch_embed.proj.weight"),
        ({"in_chans": 1}, "patch_embed.proj.weight"),
        ({"proj_bias": False}, "attn.proj.bias"),
        ({"act_layer": "relu"}, "features"),
        ({"norm_layer": functools.partial(RmsNorm, eps=1e-6)}, "RMSNorm"),
        ({"global_pool": "avgmax"}, "avgmax"),
        ({"pool_include_prefix": True, "global_pool": "avg"}, "features"),
    ],
)
def test_each_variation_of_timms_class_is_noticed(
    monkeypatch: pytest.MonkeyPatch, argument: dict[str, Any], difference: str
) -> None:
    from petl_core.models.timm_names import timm_config

    plain = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **more: plain(name, **{"depth": 2, **argument, **more}))
    timm_config.cache_clear()
    try:
        with pytest.raises(UserError, match=difference):
            config_of("vit_tiny_patch16_224")
    finally:
        timm_config.cache_clear()


def test_close_names_are_offered() -> None:
    with pytest.raises(UserError, match=r"unknown backbone 'vit_tinny_patch16_224'.*vit_tiny_patch16_224"):
        config_of("vit_tinny_patch16_224")
    with pytest.raises(UserError, match=r"close names: mini"):
        config_of("minni")


def test_unknown_tags_list_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no weights 'best' of 'vit_tiny_patch16_224'; it has: .*augreg_in21k"):
        config_of("vit_tiny_patch16_224.best")


def test_without_network_the_error_says_what_where_and_what_to_do() -> None:
    with pytest.raises(UserError) as caught:
        create_model("vit_tiny_patch16_224", "linear", num_classes=2)
    for part in ("vit_tiny_patch16_224", "huggingface.co/timm/", "pretrained='path/to"):
        assert part in str(caught.value)


def test_an_architecture_without_weights_says_so() -> None:
    with pytest.raises(UserError, match="timm has no weights for 'vit_small_patch16_36x1_224'"):
        create_model("vit_small_patch16_36x1_224", "linear", num_classes=2)


def test_weights_come_from_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the download replaced by weights made here: they arrive, and the digest is theirs."""
    plain = timm.create_model
    torch.manual_seed(3)
    held = plain("vit_tiny_patch16_224")

    def created(name: str, **more: Any) -> Any:
        return held if more.get("pretrained") else plain(name, **more)

    monkeypatch.setattr(timm, "create_model", created)
    model = create_model("vit_tiny_patch16_224", "linear", keep_head=True).eval()
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(model(images), held.eval()(images), rtol=0, atol=1e-5)
    assert model.spec.weights == digest("vit_tiny_patch16_224")


def test_a_licence_that_asks_for_something_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name, plain = "vit_small_patch16_dinov3", timm.create_model
    held = plain(name, depth=1)
    monkeypatch.setattr(hub, "find_hub", lambda: None)
    monkeypatch.setattr(timm, "create_model", lambda *_, **more: held)
    with pytest.warns(UserWarning, match="dinov3-license"):
        assert set(hub.timm_weights(name)) == set(held.state_dict())
    monkeypatch.undo()
    with pytest.raises(UserError, match="dinov3-license"):
        hub.timm_weights(name)


def test_weights_that_cannot_be_fetched_are_named_at_once(tmp_path):
    """Against a port of this machine that nobody listens on; the hub's own client would try for a minute."""
    code = "import petl_core as pc; pc.create_model('vit_tiny_patch16_224', num_classes=2)"
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE" and not k.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Retry" not in done.stderr
    assert "UserError" in done.stderr and "vit_tiny_patch16_224" in done.stderr and "pretrained=" in done.stderr
