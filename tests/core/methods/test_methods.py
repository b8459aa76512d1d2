"""The contract that every method keeps (``petl_core.contract``) over the registry, and what is known of each method:
which start as the pre-trained function, what trains, which merge, which wait for gradient."""

import itertools

import pytest
import torch

import petl_core as pc
from petl_core import contract, methods
from petl_core.contract import VARIANTS, gap, images, shake, without_gradient
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


@pytest.fixture(scope="session")
def bench():
    with contract.bench() as small:
        yield small


@pytest.fixture
def build(bench):
    def build(method, variant="plain", **hyper):
        if isinstance(method, str) and "+" in method:
            method = [small(part) for part in method.split("+")]
        elif isinstance(method, str):
            hyper = {**SMALL.get(method, {}), **hyper}
        return bench.build(method, variant, **hyper)

    return build


def small(name):
    return methods.get(name, **SMALL.get(name, {}))


# ---- the contract, rule by rule

QUICK = ("lora", "vqt")


def cells() -> list:
    """Every rule, method and variant; compiling, which is slow, on one variant, and always for two methods only."""
    found = []
    for rule, name in itertools.product(contract.RULES, NAMES):
        compiling = rule in contract.SLOW
        marks = [pytest.mark.slow] if compiling and name not in QUICK else []
        for variant in ["plain"] if compiling else VARIANTS:
            found.append(pytest.param(rule, name, variant, marks=marks, id=f"{rule}-{name}-{variant}"))
    return found


@pytest.mark.parametrize(("rule", "name", "variant"), cells())
def test_the_contract(bench, rule, name, variant):
    contract.RULES[rule](bench, small(name), variant)


# ---- what a method says about itself


def test_all_names_are_registered():
    assert methods.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_only_full_fine_tuning_is_tuned_down_to_its_small_rates(name):
    assert (min(methods.registry[name].lrs) <= 1e-5) == (name == "full")


# ---- the start


def test_who_starts_as_the_pretrained_function():
    others = [name for name in NAMES if not methods.get(name).identity_at_start]
    assert others == ["ssf", "vpt_deep", "vpt_shallow", "vqt"]


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


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_what_waits_for_the_second_step(build, name, variant):
    model = build(name, variant)
    waiting = {n for n, _ in model.named_parameters() if any(part in n for part in WAITING.get(name, ()))}
    assert without_gradient(model) == waiting


@pytest.mark.parametrize("name", ["houlsby_adapter", "pfeiffer_adapter"])
def test_a_pair_of_zeros_trains_only_the_bias_of_up(build, name):
    model = build(name, init="zero")
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        stuck = without_gradient(model)
        optimiser.step()
    assert stuck == {n for n, _ in model.named_parameters() if ".down." in n or n.endswith(".up.weight")}


# ---- merging and alpha


def test_who_merges():
    assert [name for name in NAMES if name in ADDING and methods.registry[name].mergeable] == MERGING
    assert all(methods.registry[name].mergeable for name in NAMES if name not in ADDING)


@pytest.mark.parametrize("name", sorted(set(ADDING) - set(MERGING)))
def test_the_error_of_merging_names_the_method(build, name):
    with pytest.raises(ValueError, match=f"{name}.*{methods.registry[name].obstacle}"):
        pc.merge(build(name))


@pytest.mark.parametrize("pair", list(itertools.permutations([*MERGING, "bitfit"], 2)), ids="+".join)
def test_two_methods_merge_in_any_order(build, pair):
    model = shake(build("+".join(pair), "clip"))
    assert gap(pc.merge(model)(images()), model(images())) < 1e-5


def test_merging_ssf_gives_clips_patch_embedding_a_bias(build):
    model = build("ssf", "clip")
    assert model.patch_embed.proj.bias is None
    assert pc.merge(model).patch_embed.proj.bias is not None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "vqt"])
def test_near_alpha_1_is_near_the_tuned_function(build, name, variant):
    """Not so VQT: its ends are a mixture of class token and combination too."""
    model = shake(build(name, variant))
    assert gap(pc.interpolate(model, 1.0 - 1e-4)(images()), model(images())) < 1e-2


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


# ---- several models, several methods


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
def test_unknown_hyper_parameters(name):
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
