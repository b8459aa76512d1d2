"""Building, counting, merging and interpolating models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import disturbed, gap, small_backbone
from torch import nn

import petl_core as pc
from petl_core import create_model, interpolate, merge, methods
from petl_core.models.weights import save_backbone
from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a small backbone, as a student's ``mini``."""
    return str(small_backbone(tmp_path_factory.mktemp("backbone") / "small.safetensors"))


def trainable(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_exactly_what_the_method_names_trains(backbone: str) -> None:
    names = {name for name, _ in ViT(ViTConfig(16, 8, 32, 2, 4), 5).named_parameters()}
    head = {"head.weight", "head.bias"}
    assert trainable(create_model(backbone, "linear", num_classes=4)) == head
    assert trainable(create_model(backbone, "full", num_classes=4)) == names
    assert trainable(create_model(backbone, "bitfit", num_classes=4)) == {n for n in names if n.endswith("bias")} | head
    lora = create_model(backbone, "lora", num_classes=4)
    assert trainable(lora) == head | {n for n, _ in lora.named_parameters() if n.startswith("methods.lora.")}
    assert len(trainable(lora)) == 2 + 2 * 2


def test_count_leaves_the_head_out(backbone: str) -> None:
    model = create_model(backbone, "lora", num_classes=40, rank=3)
    assert pc.count_trainable(model) == 4 * 32 * 3 * 2 == methods.get("lora", rank=3).count(model.config)
    assert pc.count_trainable(create_model(backbone, "linear", num_classes=40)) == 0


def test_one_seed_fixes_everything_and_the_global_generator_is_left_alone(backbone: str) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same = (create_model(backbone, "lora", num_classes=4, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    other = create_model(backbone, "lora", num_classes=4, seed=4)
    assert all(torch.equal(t, same.state_dict()[n]) for n, t in one.state_dict().items())
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not torch.equal(one.methods["lora"][0].down.weight, other.methods["lora"][0].down.weight)
    assert torch.equal(one.blocks[0].attn.qkv.weight, other.blocks[0].attn.qkv.weight)
    assert torch.equal(one.head.weight, create_model(backbone, "full", num_classes=4, seed=3).head.weight)


def test_random_weights_come_from_the_seed(backbone: str) -> None:
    one, same, other = (create_model(backbone, "full", num_classes=4, pretrained=False, seed=s) for s in (1, 1, 2))
    assert gap(one.eval(), same.eval()) == 0.0
    assert gap(one, other.eval()) > 0.0
    assert one.spec.weights == one.spec.source == "random"


def test_the_spec_says_how_the_model_was_made(backbone: str) -> None:
    model = create_model(backbone, "lora", num_classes=4, rank=2, image_size=32, seed=9)
    spec = model.spec
    assert (spec.backbone, spec.source, spec.num_classes, spec.image_size, spec.seed) == (backbone, "default", 4, 32, 9)
    assert spec.methods == (methods.get("lora", rank=2),)
    assert len(spec.weights) == 16
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 4)


def test_methods_compose(backbone: str) -> None:
    joined = create_model(backbone, "lora+ssf", num_classes=4)
    listed = create_model(backbone, [methods.get("lora"), methods.get("ssf")], num_classes=4)
    assert joined.spec == listed.spec
    assert set(joined.methods) == {"lora", "ssf"}
    assert gap(joined.eval(), listed.eval()) == 0.0
    alone = sum(pc.count_trainable(create_model(backbone, name, num_classes=4)) for name in ("lora", "ssf"))
    assert pc.count_trainable(joined) == alone


def test_the_head_is_kept_on_request(backbone: str) -> None:
    model = create_model(backbone, "lora", keep_head=True).eval()
    assert model.head.out_features == 5
    assert gap(model, create_model(backbone, "linear", keep_head=True, num_classes=5).eval()) == 0.0
    assert not torch.equal(model.head.weight, create_model(backbone, "lora", num_classes=5).head.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "lorra"}, "unknown method 'lorra'; did you mean 'lora'"),
        ({"method": "lora", "ranks": 3}, "no hyper-parameter 'ranks'; it has: rank"),
        ({"method": "lora", "rank": 0}, "rank is 0"),
        ({"method": "lora", "rank": -1}, "rank is -1"),
        ({"method": "lora+lora"}, "each once"),
        ({"method": []}, "one or more"),
        ({"method": "lora+ssf", "rank": 4}, r"\(rank\) go with one method name"),
        ({"num_classes": None}, "say how many classes"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": 2.0}, "num_classes is 2.0"),
        ({"num_classes": 7, "keep_head": True}, "has 5 classes, num_classes is 7"),
        ({"pretrained": False, "keep_head": True}, "have no head to keep"),
        ({"seed": -1}, "seed is -1"),
        ({"image_size": 15}, "multiples of its patch size 8: try 16"),
        ({"pretrained": "absent.npz"}, "no weights file at absent.npz"),
        ({"method": "selective", "index": (2,)}, "method .selective. on .*2"),
    ],
)
def test_wrong_input_is_refused_with_a_reason(backbone: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_model(backbone, **{"num_classes": 4, **arguments})


@pytest.mark.parametrize("method", ["linear", "full", "bitfit", "lora", "ssf", "repadapter", "lora+ssf", "ssf+lora"])
def test_merged_models_are_plain_and_equal(backbone: str, method: str) -> None:
    model = disturbed(create_model(backbone, method, num_classes=4))
    merged = merge(model)
    assert gap(model, merged) < 1e-5
    assert gap(merged, create_model(backbone, "linear", num_classes=4).eval()) > 1e-3
    assert {name for name, _ in merged.named_parameters()} == {n for n, _ in ViT(model.config, 4).named_parameters()}
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert not any(edits for module in merged.modules() for edits in getattr(module, "sites", {}).values())
    assert pc.count_trainable(merged) == 0
    assert merged.spec.methods == ()
    assert len(model.methods) == len([name for name in method.split("+") if name in model.methods])


@pytest.mark.parametrize("method", ["lora+repadapter", "repadapter+lora", "lora+ssf+repadapter", "repadapter+ssf"])
def test_composed_methods_merge_exactly(backbone: str, method: str) -> None:
    model = disturbed(create_model(backbone, method, num_classes=4))
    assert gap(model, merge(model)) < 1e-5


def test_a_composition_that_does_not_fold_is_refused(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RepAdapter folded before LoRA would give other logits; that is noticed."""
    model = disturbed(create_model(backbone, "lora+repadapter", num_classes=4))
    monkeypatch.setattr(type(methods.get("repadapter")), "merge_order", -1)
    with pytest.raises(ValueError, match="repadapter and lora act on each other"):
        merge(model)


def test_what_cannot_be_merged_says_why(backbone: str) -> None:
    model = create_model(backbone, "lora+adaptformer", num_classes=4)
    with pytest.raises(ValueError, match=r"'adaptformer' cannot be merged: .+"):
        merge(model)
    assert set(model.methods) == {"lora", "adaptformer"}


def test_a_merged_model_can_be_shipped_as_a_backbone(backbone: str, tmp_path: Path) -> None:
    merged = merge(disturbed(create_model(backbone, "lora", num_classes=4)))
    path = save_backbone(merged, tmp_path / "shipped.safetensors")
    assert gap(create_model(str(path), "linear", keep_head=True).eval(), merged) == 0.0
    for refused in (merge, lambda m: interpolate(m, 0.5)):
        with pytest.raises(UserError, match="merged model"):
            refused(merged)


@pytest.mark.parametrize("method", ["linear", "full", "bitfit", "lora", "difffit", "lora+ssf"])
def test_both_ends_of_the_interpolation_are_exact(backbone: str, method: str) -> None:
    start = create_model(backbone, method, num_classes=4).eval()
    pretrained = create_model(backbone, "linear", num_classes=4).eval()  # the same seed, so the same head
    tuned = disturbed(create_model(backbone, method, num_classes=4))
    before = {name: tensor.clone() for name, tensor in tuned.state_dict().items()}
    assert gap(interpolate(tuned, 0.0), pretrained) == 0.0
    assert gap(interpolate(tuned, 0), pretrained) == 0.0
    assert gap(interpolate(tuned, 1.0), tuned) == 0.0
    assert gap(interpolate(tuned, 0.5), tuned) > 0.0
    assert all(torch.equal(tensor, before[name]) for name, tensor in tuned.state_dict().items())
    assert gap(interpolate(start, 0.0), pretrained) == 0.0


def test_full_interpolation_is_linear_in_the_weights(backbone: str) -> None:
    tuned = disturbed(create_model(backbone, "full", num_classes=4))
    middle = dict(interpolate(tuned, 0.25).named_parameters())
    for name, parameter in tuned.named_parameters():
        torch.testing.assert_close(middle[name], 0.75 * tuned.initial[name] + 0.25 * parameter)


def test_interpolating_lora_is_interpolating_the_merged_weights(backbone: str) -> None:
    tuned = disturbed(create_model(backbone, "lora", num_classes=4))
    whole, start = merge(tuned), merge(interpolate(tuned, 0.0))
    between = merge(interpolate(tuned, 0.3))
    for (name, a), b, c in zip(start.named_parameters(), whole.parameters(), between.parameters(), strict=True):
        torch.testing.assert_close(c, torch.lerp(a, b, 0.3), msg=name)


def test_interpolating_twice_multiplies(backbone: str) -> None:
    tuned = disturbed(create_model(backbone, "lora", num_classes=4))
    assert gap(interpolate(interpolate(tuned, 0.5), 0.5), interpolate(tuned, 0.25)) < 1e-6


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), True, "1"])
def test_alpha_is_checked(backbone: str, alpha: float) -> None:
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        interpolate(create_model(backbone, "linear", num_classes=4), alpha)


def test_a_plain_vit_has_nothing_to_merge() -> None:
    with pytest.raises(UserError, match="made by create_model"):
        merge(ViT(ViTConfig(16, 8, 32, 1, 4), 2))  # type: ignore[arg-type]


def test_import_is_quick_and_light() -> None:
    code = (
        "import sys, petl_core; assert 'torch' not in sys.modules and 'timm' not in sys.modules\n"
        "petl_core.create_model; assert 'torch' in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("first", ["petl_core.training.train", "petl_core.models.build", "petl_core.study"])
def test_the_function_train_is_public_whatever_is_imported_first(first: str) -> None:
    code = (
        f"import {first}, petl_core as pc, sys\n"
        "from petl_core.training.train import train\n"
        "from petl_core import train as public\n"
        "assert pc.train is train is public and sys.modules['petl_core.training.train'].train is train"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_public_name_exists() -> None:
    assert set(pc.__all__) <= set(dir(pc))
    for name in pc.__all__:
        assert getattr(pc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'tune'"):
        pc.tune  # noqa: B018
