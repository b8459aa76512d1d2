"""The contract over methods and kinds of ViT: each method attaches to each, starts as it says, trains, merges where it
merges, saves and loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import petl_core as pc
from petl_core import contract, methods
from petl_core.contract import gap, images, shake
from petl_core.models.weights import save_backbone
from petl_core.utils import UserError

OTHERS: dict[str, dict[str, Any]] = {
    "deit3": {"layer_scale": True, "registers": 2, "position": "patches"},
    "siglip": {"class_token": False, "pool": "attention", "tanh_gelu": True},
    "dinov3": {"registers": 2, "position": "none", "rotary": "dinov3", "qkv_bias": "none", "pool": "average"},
    "eva02": {"rotary": "axial", "rotary_grid": 16, "qkv_bias": "qv", "pool": "average", "final_norm": "pooled"}
    | {"gated": True, "mlp_norm": True, "attention_norm": True},
    "rope": {"rotary": "learned", "columns_first": True, "final_norm": "none"},
    "beit": {"position": "none", "relative_position": True, "qkv_bias": "qv", "layer_scale": True},
}
KINDS = {name: replace(contract.VARIANTS["plain"], **fields) for name, fields in OTHERS.items()}
ABOUT = ("description", "tuning_space", "hyper_parameters")  # what does not depend on the backbone
RULES = [rule for rule in contract.RULES if rule not in (*ABOUT, *contract.SLOW)]


@pytest.fixture(scope="module")
def bench() -> Iterator[contract.Bench]:
    with contract.bench(KINDS) as small:
        yield small


def pairs() -> list:
    """Every method with every kind; all but LoRA's, and two kinds of each other method in turn, are exhaustive."""
    found, kinds = [], list(KINDS)
    for place, name in enumerate(methods.names()):
        usual = kinds if name == "lora" else (kinds[place % len(kinds)], kinds[(place + 3) % len(kinds)])
        found += [pytest.param(name, kind, marks=[] if kind in usual else [pytest.mark.exhaustive]) for kind in kinds]
    return found


@pytest.mark.parametrize(("name", "kind"), pairs())
def test_the_contract_on_every_kind(bench: contract.Bench, name: str, kind: str) -> None:
    for rule in RULES:
        contract.RULES[rule](bench, methods.get(name), kind)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lora", "vpt_shallow", "vqt"])
def test_compiled_on_every_kind(bench: contract.Bench, name: str, kind: str) -> None:
    contract.RULES["compiled"](bench, methods.get(name), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lora", "ssf", "repadapter"])
def test_a_merged_model_is_a_backbone_of_its_own(bench: contract.Bench, name: str, kind: str, tmp_path) -> None:
    """Also where merging gives a bias to a layer that had none, or to the keys."""
    model = shake(bench.build(name, kind))
    path = save_backbone(pc.merge(model), tmp_path / "merged.safetensors")
    again = pc.create_model(str(path), "linear", keep_head=True).eval()
    assert gap(again(images()), model(images())) < 1e-5


@pytest.mark.parametrize("kind", ["eva02", "beit"])
@pytest.mark.parametrize("name", ["full", "bitfit"])
def test_keys_without_bias_keep_none(bench: contract.Bench, name: str, kind: str) -> None:
    model = bench.build(name, kind)
    before = model.blocks[0].attn.qkv.bias.chunk(3)[1].detach().clone()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        optimiser.zero_grad()
        model(images()).square().sum().backward()
        optimiser.step()
    query, key, _ = model.blocks[0].attn.qkv.bias.chunk(3)
    assert torch.equal(key, before) and query.grad_fn is not None


def test_fact_says_which_mlp_it_cannot_cut(bench: contract.Bench, tmp_path) -> None:
    with torch.random.fork_rng():
        odd = pc.vit.ViT(replace(KINDS["eva02"], mlp_ratio=2.67), 3)
    path = save_backbone(odd, tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match=r"fact_tt.*42 is not a multiple"):
        pc.create_model(str(path), "fact_tt", num_classes=3)


@pytest.mark.parametrize("kind", ["dinov3", "eva02", "rope"])
def test_rotary_tables_follow_the_model(bench: contract.Bench, kind: str) -> None:
    """Precision changes and an empty model give the tables anew, and no state holds them."""
    model = bench.plain(kind)
    expected = model(images())
    assert not any("table" in name for name in model.state_dict())
    assert torch.equal(model.bfloat16().float().double().float()(images()), model(images()))
    with torch.device("meta"):
        empty = pc.vit.ViT(KINDS[kind], contract.CLASSES)
    empty.to_empty(device="cpu").load_state_dict(bench.plain(kind).state_dict())
    assert torch.equal(empty.eval()(images()), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_weight_zero_change_nothing(bench: contract.Bench, kind: str) -> None:
    """They stand behind the patches: no place, no bias by distance, and the head does not read them."""
    model = bench.build("vpt_deep", kind)
    with torch.no_grad():
        near = pc.interpolate(model, 1e-6)(images())
    assert gap(near, bench.plain(kind)(images())) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_sites_keep_their_meaning(bench: contract.Bench, kind: str) -> None:
    """At every site an edit sees what the table of ``vit.py`` says, and heads, act are what proj, fc2 read."""
    vit, c, seen = bench.plain(kind), KINDS[kind], {}
    sites = {**vit.blocks[1].sites, **vit.sites}
    for site, edits in sites.items():
        edits.append(lambda y, x, site=site: seen.setdefault(site, (y, x)) and y)
    vit(images())
    N, D, fc1 = c.tokens, c.width, c.hidden * (2 if c.gated else 1)
    widths = {"qkv": 3 * D, "fc1": fc1, "act": c.hidden}
    shapes = {site: (2, N, widths.get(site, D)) for site in sites} | {"features": (2, D), "patches": (2, c.grid**2, D)}
    assert {site: tuple(y.shape) for site, (y, _) in seen.items()} == shapes
    assert seen["proj"][1] is seen["heads"][0] and seen["fc2"][1] is seen["act"][0]
    block, (heads, _) = vit.blocks[1], seen["heads"]
    assert torch.equal(block.attn.proj(heads), seen["proj"][0])
    assert torch.equal(block.mlp.fc2(seen["act"][0]), seen["fc2"][0])
    assert torch.equal(block.norm1(seen["tokens"][0]), seen["norm1"][0])
