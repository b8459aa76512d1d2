"""The contract that every method keeps, tested over the registry on three small backbones: a plain ViT, one built as
CLIP's (LayerNorm first, no bias in the patch embedding, QuickGELU) and one built as DINOv2's (LayerScale)."""

import copy
import dataclasses
import itertools
import sys

import pytest
import torch

import petl_core as pc
from petl_core import methods
from petl_core.vit import ViT, ViTConfig

NAMES = [
    "adaptformer",
    "bitfit",
    "convpass",
    "difffit",
    "fact_tk",
    "fact_tt",
    "full",
    "houlsby_adapter",
    "layernorm",
    "linear",
    "lora",
    "pfeiffer_adapter",
    "repadapter",
    "selective",
    "ssf",
    "vpt_deep",
    "vpt_shallow",
    "vqt",
]
ADDING = [name for name in NAMES if name not in ("bitfit", "full", "layernorm", "linear", "selective")]
MERGING = ["difffit", "fact_tk", "fact_tt", "lora", "repadapter", "ssf"]
SMALL = {name: {"rank": 4} for name in ("fact_tk", "fact_tt", "lora")} | {
    "vpt_deep": {"prompts": 3},
    "vqt": {"queries": 2},
}
VARIANTS = {
    "plain": ViTConfig(32, 8, 16, 2, 2),
    "clip": ViTConfig(32, 8, 16, 2, 2, pre_norm=True, quick_gelu=True, norm_eps=1e-5),
    "dinov2": ViTConfig(32, 8, 16, 2, 2, layer_scale=True),
}
CLASSES = 3


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """A file for each variant, with weights large enough for every path to matter."""
    folder, files = tmp_path_factory.mktemp("backbones"), {}
    for name, config in VARIANTS.items():
        vit, random = ViT(config, CLASSES), torch.Generator().manual_seed(1)
        with torch.no_grad():
            for key, p in vit.named_parameters():
                start = 1.0 if key.endswith((".gamma", "norm1.weight", "norm2.weight", "norm.weight")) else 0.0
                p.copy_(start + 0.2 * torch.randn(p.shape, generator=random))
        files[name] = str(pc.save_backbone(vit, folder / f"{name}.safetensors"))
    return files


@pytest.fixture
def build(backbones):
    def build(method, variant="plain", **hyper):
        if isinstance(method, str) and "+" in method:
            method = [methods.get(part, **SMALL.get(part, {})) for part in method.split("+")]
        elif isinstance(method, str):
            hyper = {**SMALL.get(method, {}), **hyper}
        return pc.create_model(backbones[variant], method, keep_head=True, **hyper).eval()

    return build


def images(count=2):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def shake(model, std=0.1):
    """Change everything that trains, as training would."""
    random = torch.Generator().manual_seed(3)
    for p in model.parameters():
        if p.requires_grad:
            p += std * torch.randn(p.shape, generator=random)
    return model


def gap(a, b):
    return (a - b).abs().max().item()


# ---- what a method says about itself


def test_all_names_are_registered():
    assert methods.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_description_is_complete(name):
    cls = methods.registry[name]
    text = sys.modules[cls.__module__].__doc__
    for part in ("Paper:", "Formula:", "Site", "Parameters:", "Merges:", "Released code:"):
        assert part in text, part
    assert cls.family in ("baseline", "selective", "adapter", "prompt", "low-rank")
    assert cls.title
    assert "arXiv" in cls.paper
    assert (cls.obstacle == "") == cls.mergeable
    assert cls.size_field in (None, "rank", "bottleneck", "prompts", "queries")


@pytest.mark.parametrize("name", NAMES)
def test_the_tuning_space_is_valid(name):
    cls, default = methods.registry[name], methods.get(name).hyper()
    assert len(set(cls.lrs)) == len(cls.lrs) >= 3
    assert (min(cls.lrs) <= 1e-5) == (name == "full")
    for space in (cls.space, cls.published_space):
        for values in itertools.product(*space.values()):
            methods.get(name, **dict(zip(space, values, strict=True)))
    for field, values in cls.space.items():
        assert default[field] in values
        assert len(set(values)) == len(values) <= (2 if field == cls.size_field else 3)


@pytest.mark.parametrize("name", NAMES)
def test_hyper_parameters_make_the_same_method_again(name):
    method = methods.get(name)
    assert methods.get(name, **method.hyper()) == method
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.rank = 3


# ---- the start


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_start_is_the_pretrained_function_where_promised(build, name, variant):
    plain, model = build("linear", variant), build(name, variant)
    difference = gap(model(images()), plain(images()))
    if methods.get(name).identity_at_start:
        assert difference == 0.0
    else:
        assert name in ("ssf", "vpt_deep", "vpt_shallow", "vqt")
        assert difference > 1e-3


@pytest.mark.parametrize(
    ("name", "hyper", "identity"),
    [(name, {"init": "released"}, name == "repadapter") for name in ADDING if name not in ("difffit", "ssf")]
    + [(name, {"init": "random"}, False) for name in ("houlsby_adapter", "pfeiffer_adapter")]
    + [(name, {"init": "zero"}, True) for name in ("houlsby_adapter", "pfeiffer_adapter")]
    + [("convpass", {"conv_init": "xavier"}, True), ("ssf", {"noise": 0.0}, True)],
)
def test_the_start_with_other_initialisations(build, name, hyper, identity):
    model = build(name, **hyper)
    assert methods.get(name, **hyper).identity_at_start == identity
    assert (gap(model(images()), build("linear")(images())) == 0.0) == identity


# ---- what trains

BLOCK = {
    "norms": ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"],
    "biases": ["norm1.bias", "attn.qkv.bias", "attn.proj.bias", "norm2.bias", "mlp.fc1.bias", "mlp.fc2.bias"],
    "attention": ["attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias"],
}


def in_blocks(kind):
    return {f"blocks.{i}.{name}" for i in (0, 1) for name in BLOCK[kind]}


def expected_backbone(name, variant, everything):
    """The backbone's parameters that train, written out."""
    ends = {"norm.bias", "norm_pre.bias" if variant == "clip" else "patch_embed.proj.bias"}
    norms = {"norm.weight", "norm.bias"} | ({"norm_pre.weight", "norm_pre.bias"} if variant == "clip" else set())
    return {
        "full": everything,
        "bitfit": in_blocks("biases") | ends,
        "layernorm": in_blocks("norms") | norms,
        "difffit": in_blocks("biases") | in_blocks("norms") | ends | norms,
        "selective": {f"blocks.1.{n}" for n in BLOCK["attention"]},
    }.get(name, set())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_exactly_its_own_parameters_train(build, name, variant):
    model, plain = build(name, variant), build("linear", variant)
    everything = {n for n, _ in plain.named_parameters() if not n.startswith("head.")}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    added = {n for n in trained if n.startswith(f"methods.{name}.")}
    assert bool(added) == (name in ADDING)
    assert trained == {"head.weight", "head.bias"} | added | expected_backbone(name, variant, everything)
    assert {n for n, _ in model.named_parameters()} == {"head.weight", "head.bias"} | added | everything
    assert set(model.state_dict()) == {n for n, _ in model.named_parameters()}  # no tensor has two names
    assert pc.count_trainable(model) == methods.get(name, **SMALL.get(name, {})).count(VARIANTS[variant])


WAITING = {  # these get no gradient in the first step, because what follows them is zero
    "adaptformer": (".down.",),
    "convpass": (".down.", ".conv."),
    "fact_tk": (".down.", ".cube", ".mix"),
    "fact_tt": (".down.", ".cores."),
    "houlsby_adapter": (".down.",),
    "lora": (".down.",),
    "pfeiffer_adapter": (".down.",),
    "repadapter": (".down.",),
}


def without_gradient(model):
    model.zero_grad()
    torch.nn.functional.cross_entropy(model(images(4)), torch.tensor([0, 1, 2, 0])).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is None for n, p in model.named_parameters() if n not in trained)
    return {n for n, p in trained.items() if p.grad is None or not p.grad.abs().max() > 0}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_trainable_tensor_gets_gradient_and_nothing_else_moves(build, name, variant):
    model = build(name, variant)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    waiting = {n for n in before if any(part in n for part in WAITING.get(name, ()))}
    assert without_gradient(model) == waiting
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    optimiser.step()
    assert without_gradient(model) == set()
    optimiser.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ["houlsby_adapter", "pfeiffer_adapter"])
def test_a_pair_of_zeros_trains_only_the_bias_of_up(build, name):
    model = build(name, init="zero")
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        stuck = without_gradient(model)
        optimiser.step()
    assert stuck == {n for n, _ in model.named_parameters() if ".down." in n or n.endswith(".up.weight")}


# ---- merging and alpha


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_merged_is_unmerged_or_an_error_says_why(build, name, variant):
    model = shake(build(name, variant))
    if not methods.registry[name].mergeable:
        assert name in ADDING
        assert name not in MERGING
        with pytest.raises(ValueError, match=f"{name}.*{methods.registry[name].obstacle}"):
            pc.merge(model)
        with pytest.raises(ValueError, match=methods.registry[name].obstacle):
            methods.get(name).merge(model, model.methods[name])
        return
    expected = model(images())
    merged = pc.merge(model)
    assert not len(merged.methods)
    assert gap(merged(images()), expected) < 1e-5
    assert gap(expected, build("linear", variant)(images())) > 1e-2  # the disturbance was felt
    assert torch.equal(model(images()), expected)  # and merging made a copy


@pytest.mark.parametrize("pair", list(itertools.permutations([*MERGING, "bitfit"], 2)), ids="+".join)
def test_two_methods_merge_in_any_order(build, pair):
    model = shake(build("+".join(pair), "clip"))
    assert gap(pc.merge(model)(images()), model(images())) < 1e-5


def test_merging_ssf_gives_clips_patch_embedding_a_bias(build):
    model = build("ssf", "clip")
    assert model.patch_embed.proj.bias is None
    assert pc.merge(model).patch_embed.proj.bias is not None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_alpha_0_is_pretrained_and_alpha_1_is_tuned(build, name, variant):
    plain, model = build("linear", variant)(images()), shake(build(name, variant))
    tuned = model(images())
    assert torch.equal(pc.interpolate(model, 0.0)(images()), plain)
    assert torch.equal(pc.interpolate(model, 1.0)(images()), tuned)
    middle = pc.interpolate(model, 0.5)(images())
    assert min(gap(middle, plain), gap(middle, tuned)) > 1e-4
    if name != "vqt":  # near the ends it is near them; VQT's ends are a mixture of class token and combination too
        assert gap(pc.interpolate(model, 1.0 - 1e-4)(images()), tuned) < 1e-2
    assert gap(pc.interpolate(model, 1e-4)(images()), plain) < 1e-2


@pytest.mark.parametrize("name", ["lora", "fact_tt", "fact_tk", "ssf", "repadapter"])
def test_where_weights_change_linearly_alpha_interpolates_weights(build, name):
    plain, model = build("linear", "dinov2"), shake(build(name, "dinov2"))
    tuned = pc.merge(model).state_dict()
    middle = pc.merge(pc.interpolate(model, 0.3)).state_dict()
    for key, start in plain.state_dict().items():
        assert gap(middle[key], torch.lerp(start, tuned[key], 0.3)) < 1e-6, key


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
def test_a_prompt_twice_at_half_weight_is_the_prompt_once(build, name):
    once, twice = build(name, prompts=1), build(name, prompts=2)
    with torch.no_grad():
        for one, two in zip(once.methods.parameters(), twice.methods.parameters(), strict=True):
            two.copy_(one.expand(2, -1))
    assert gap(twice(images()), once(images())) > 1e-3
    assert gap(pc.interpolate(twice, 0.5)(images()), once(images())) < 1e-5


# ---- ways of running


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one(build, name):
    model = shake(build(name))
    assert model(images(1)).shape == (1, CLASSES)
    assert gap(model(images()[:1]), model(images())[:1]) < 1e-5
    model.train()(images(1)).sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16(build, name):
    model = shake(build(name), 0.02)
    reference = model(images())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(images())
        model.train()(images()).sum().backward()
    half = copy.deepcopy(model).eval().to(torch.bfloat16)(images().bfloat16())
    between = pc.interpolate(model.eval(), 0.5).to(torch.bfloat16)(images().bfloat16())
    assert half.dtype == between.dtype == torch.bfloat16
    assert between.isfinite().all()
    size = reference.abs().max().item()
    assert gap(mixed.float(), reference) < 0.1 * size
    assert gap(half.float(), reference) < 0.1 * size
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


QUICK = ("lora", "vqt")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_compiled_in_one_graph(build, name):
    model = shake(build(name))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for count in (2, 2):
        assert gap(compiled(images(count)), model(images(count))) < 1e-5
    compiled(images()).sum().backward()
    assert without_gradient(model) == set()


@pytest.mark.parametrize("name", ADDING)
def test_a_copy_is_independent(build, name):
    model = build(name)
    before = model(images())
    other = copy.deepcopy(model)
    assert torch.equal(other(images()), before)
    shake(other)
    assert gap(other(images()), before) > 1e-3  # the copy's edits are the copy's
    assert torch.equal(model(images()), before)
    other.train()  # dropout reaches the copy's edits
    assert not model.methods.training
    own = {p.data_ptr() for p in model.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in other.parameters())


@pytest.mark.parametrize("name", ADDING)
def test_two_models_share_nothing(build, name):
    first, bitfit = build(name), build("bitfit")
    second = shake(build(name))
    assert gap(first(images()), second(images())) > 1e-3
    assert torch.equal(first(images()), build(name)(images()))  # and the same seed makes the same start
    assert {n for n, p in bitfit.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"} | (
        expected_backbone("bitfit", "plain", set())
    )
    assert (
        not [n for n, p in second.named_parameters() if p.requires_grad and n.startswith("blocks")] or name == "difffit"
    )


@pytest.mark.parametrize("name", ADDING)
def test_methods_compose(build, name):
    plain = build("linear")(images())
    others = [other for other in NAMES if other < name or (other != name and name in ("vpt_deep", "convpass"))]
    for other in others:
        model = shake(build(f"{name}+{other}"), 0.05)
        assert without_gradient(model) == set(), other
        assert torch.equal(pc.interpolate(model, 0.0)(images()), plain), other
        assert pc.interpolate(model, 0.5)(images()).isfinite().all(), other


# ---- bad hyper-parameters


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_nothing_and_unknown_names(name):
    field = methods.registry[name].size_field
    for value in (0, -1, 2.5, "8", True, None) if field else ():
        with pytest.raises(ValueError, match=f"{name}: {field} is .*whole number, 1 or more"):
            methods.get(name, **{field: value})
    with pytest.raises(ValueError, match=f"'{name}' has no hyper-parameter 'bottlenek'"):
        methods.get(name, bottlenek=8)


@pytest.mark.parametrize("field", ["scale", "dropout", "init", "conv_init", "groups", "noise"])
def test_values_out_of_range(field):
    owners = [name for name in NAMES if field in methods.get(name).hyper()]
    assert owners
    for name, value in itertools.product(owners, (-1, float("nan"), float("inf"), "many", None, True)):
        with pytest.raises(ValueError, match=f"{name}: {field} is"):
            methods.get(name, **{field: value})


def test_other_bad_values(build):
    with pytest.raises(ValueError, match="did you mean 'lora'"):
        methods.get("lorra")
    with pytest.raises(ValueError, match="unknown method"):
        methods.get(None)
    with pytest.raises(ValueError, match="multiple of 2"):
        methods.get("repadapter", bottleneck=3)
    with pytest.raises(ValueError, match="divide the width of the ViT, 16"):
        build("repadapter", bottleneck=9, groups=3)
    for index in ((), (1.5,), "1", None, (True,)):
        with pytest.raises(ValueError, match="selective: index is"):
            methods.get("selective", index=index)
    for index in (2, -3):
        with pytest.raises(
            ValueError, match=f"index {index} is not in a ViT of 2 blocks; allowed: 0 to 1, or -2 to -1"
        ):
            build("selective", index=(0, index))
    with pytest.raises(ValueError, match="part is 'mpl'; allowed: attention"):
        methods.get("selective", part="mpl")


@pytest.mark.parametrize("part", ["attention", "qkv", "proj", "mlp", "fc1", "fc2", "block"])
def test_selective_never_takes_10_for_1(part):
    with torch.device("meta"):
        names = [n for n, _ in ViT(ViTConfig(), 2).named_parameters()]
    for index in (0, 1, -1):
        method = methods.get("selective", part=part, index=[index])
        chosen = {n for n in names if method.unfreezes(n, ViTConfig())}
        block = [n for n in names if n.split(".")[:2] == ["blocks", str(index % 12)]]
        layers = {"attention": ("qkv", "proj"), "mlp": ("fc1", "fc2")}.get(part, (part,))
        assert chosen == {n for n in block if part == "block" or n.split(".")[-2] in layers}
        assert chosen
