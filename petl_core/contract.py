"""The contract that every method keeps: one function for each rule, whose ``AssertionError`` says what broke.

The rules are tried on three small backbones with random weights: a plain ViT, one built as CLIP's (LayerNorm first, no
bias in the patch embedding, QuickGELU) and one built as DINOv2's (LayerScale). ``tests/test_methods.py`` runs them over
the registry; ``python -m petl_guide check-method my_method.py`` runs them on a file of your own:

    with methods.loaded("my_method.py") as name:
        for outcome in contract.check(methods.get(name)):
            print(outcome)

A rule takes a ``Bench`` (the backbones), the method and the name of a variant. Whether a method is *good* is not asked.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core import methods
from petl_core.methods import Method
from petl_core.models.adapters import load_adapter, save_adapter
from petl_core.models.build import Model, count_trainable, create_model, interpolate, merge
from petl_core.models.weights import save_backbone
from petl_core.vit import ViT, ViTConfig

VARIANTS = {
    "plain": ViTConfig(32, 8, 16, 2, 2),
    "clip": ViTConfig(32, 8, 16, 2, 2, pre_norm=True, quick_gelu=True, norm_eps=1e-5),
    "dinov2": ViTConfig(32, 8, 16, 2, 2, layer_scale=True),
}
ODD = ViTConfig(32, 8, 24, 3, 2, mlp_ratio=3.0)  # other ratios than 4 between width and hidden layer
CLASSES = 3
HEAD = {"head.weight", "head.bias"}
FAMILIES = ("baseline", "selective", "adapter", "prompt", "low-rank")
PARTS = ("Paper:", "Formula:", "Site", "Parameters:", "Merges:", "Released code:")  # of a method's docstring
SIZES = ("rank", "bottleneck", "prompts", "queries")
EXACT = 1e-5  # gap of logits of order one that rounding explains


@dataclass(frozen=True)
class Bench:
    """The three small backbones as files, with weights large enough for every path to matter."""

    files: Mapping[str, str]

    def build(self, method: str | Method | list[Method], variant: str = "plain", **hyper: Any) -> Model:
        """A model with the method, in evaluation mode, with the backbone's head: equal features give equal logits."""
        return create_model(self.files[variant], method, keep_head=True, **hyper).eval()

    def plain(self, variant: str = "plain") -> Model:
        """The pre-trained function."""
        return self.build("linear", variant)


def make_bench(folder: Path) -> Bench:
    """Write the backbones to ``folder``; they are needed as long as the bench is used."""
    files = {}
    for name, config in VARIANTS.items():
        with torch.random.fork_rng(devices=[]):
            vit, random = ViT(config, CLASSES), torch.Generator().manual_seed(1)
        with torch.no_grad():
            for key, p in vit.named_parameters():
                start = 1.0 if key.endswith((".gamma", "norm1.weight", "norm2.weight", "norm.weight")) else 0.0
                p.copy_(start + 0.2 * torch.randn(p.shape, generator=random))
        files[name] = str(save_backbone(vit, folder / f"{name}.safetensors"))
    return Bench(files)


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield make_bench(Path(folder))


def images(count: int = 2) -> Tensor:
    """Always the same noise (count, 3, 32, 32)."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def shake(model: Model, std: float = 0.1) -> Model:
    """Change everything that trains, as training would."""
    random = torch.Generator().manual_seed(3)
    for p in model.parameters():
        if p.requires_grad:
            p.add_(std * torch.randn(p.shape, generator=random))
    return model


def gap(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference."""
    return (one - other).abs().max().item()


def meta_count(method: Method, config: ViTConfig) -> int:
    """Trainable parameters without the head, counted (not by formula) on a ViT without weights: costs no memory."""
    with torch.device("meta"):
        vit = ViT(config, num_classes=1)
        own = [(n, p) for n, p in vit.named_parameters() if not n.startswith("head.")]
        module = method.attach(vit)
    added = sum(p.numel() for p in module.parameters()) if module is not None else 0
    return added + sum(p.numel() for name, p in own if method.unfreezes(name, config))


def trained(model: nn.Module) -> set[str]:
    """Names of the parameters that train."""
    return {name for name, p in model.named_parameters() if p.requires_grad}


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


# ---- what a method says about itself


def description(bench: Bench, method: Method, variant: str) -> None:
    """the file says paper, formula, sites, parameters, merging; the class its title, family, size"""
    cls = type(method)
    text = sys.modules[cls.__module__].__doc__ or ""
    missing = [part for part in PARTS if part not in text]
    assert not missing, f"the file's docstring lacks {', '.join(missing)}"
    assert cls.family in FAMILIES, f"family is '{cls.family}'; allowed: {', '.join(FAMILIES)}"
    assert cls.title, "title is empty; it names the method in tables and figures"
    assert "arXiv" in cls.paper, f"paper is '{cls.paper}'; write authors, year and arXiv number"
    assert (cls.obstacle == "") == cls.mergeable, "obstacle says why a method cannot merge: set it exactly if it cannot"
    assert cls.size_field in (None, *SIZES), f"size_field is '{cls.size_field}'; allowed: None, {', '.join(SIZES)}"


def tuning_space(bench: Bench, method: Method, variant: str) -> None:
    """three learning rates or more; every value to be tuned over is allowed, and the default is one of them"""
    cls, default = type(method), methods.get(method.name).hyper()
    assert len(set(cls.lrs)) == len(cls.lrs) >= 3, f"lrs is {cls.lrs}; give three or more, each once"
    for space in (cls.space, cls.published_space):
        for values in itertools.product(*space.values()):
            methods.get(method.name, **dict(zip(space, values, strict=True)))
    for field, values in cls.space.items():
        assert default[field] in values, (
            f"the default {field}={default[field]!r} is not among those tuned over: {values}"
        )
        most = 2 if field == cls.size_field else 3
        assert len(set(values)) == len(values) <= most, f"{field} has the values {values}; at most {most}, each once"


def hyper_parameters(bench: Bench, method: Method, variant: str) -> None:
    """the hyper-parameters make the same method again, cannot be changed, and impossible sizes are refused"""
    assert methods.get(method.name, **method.hyper()) == method, "hyper() does not make the same method again"
    try:
        method.anything = 3  # type: ignore[attr-defined]
    except dataclasses.FrozenInstanceError:
        pass
    else:
        raise AssertionError("the dataclass is not frozen: write @dataclass(frozen=True)")
    field = type(method).size_field
    for value in (0, -1, 2.5, "8", True, None) if field else ():
        message = _refusal(functools.partial(methods.get, method.name, **{str(field): value}))
        assert message, f"{field}={value!r} is accepted; call check_positive in __post_init__"
        says = re.search(f"{method.name}: {field} is .*whole number, 1 or more", message)
        assert says, f"the error for {field}={value!r} does not say what is allowed: {message}"


def _refusal(call: Callable[[], Any]) -> str:
    """The message of the ``ValueError`` that a call raises; empty if it raises none."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


# ---- the start, and what trains


def start(bench: Bench, method: Method, variant: str) -> None:
    """before training the model is the pre-trained function, exactly, if identity_at_start says so"""
    difference = gap(bench.build(method, variant)(images()), bench.plain(variant)(images()))
    if method.identity_at_start:
        assert difference == 0.0, (
            f"identity_at_start is promised, but before training logits differ by up to {difference:.2g} from the "
            "pre-trained model's: start at values that change nothing, or let identity_at_start return False"
        )
    else:
        assert difference > 1e-3, "identity_at_start is False, but nothing changes: let it return True"


def own_parameters(bench: Bench, method: Method, variant: str) -> None:
    """exactly the head, what was added, and what unfreezes() names train; no tensor has two names"""
    model, config = bench.build(method, variant), VARIANTS[variant]
    backbone = {n for n, _ in bench.plain(variant).named_parameters()} - HEAD
    added = {n for n, _ in model.named_parameters()} - HEAD - backbone
    wrong = {n for n in added if not n.startswith(f"methods.{method.name}.")}
    assert not wrong, (
        f"parameters appeared outside methods.{method.name}: {_some(wrong)}; an edit must not register the ViT's own"
    )
    unfrozen = {n for n in backbone if method.unfreezes(n, config)}
    frozen = (added | unfrozen | HEAD) - trained(model)
    assert not frozen, f"these should train and do not: {_some(frozen)}"
    more = trained(model) - (added | unfrozen | HEAD)
    assert not more, f"these train and should not: {_some(more)}"
    names = {n for n, _ in model.named_parameters()}
    twice = set(model.state_dict()) ^ names
    assert not twice, (
        f"state_dict and named_parameters differ in {_some(twice)}: a tensor has two names, or is a buffer"
    )


def count(bench: Bench, method: Method, variant: str) -> None:
    """count() equals the number of parameters, on the small backbones and on another shape"""
    counted = count_trainable(bench.build(method, variant))
    formula = method.count(VARIANTS[variant])
    assert formula == counted, f"count() gives {formula:,} for {_shape(VARIANTS[variant])}, but {counted:,} train"
    try:
        counted = meta_count(method, ODD)
    except ValueError:
        return  # a method may refuse a shape, if it says so
    assert method.count(ODD) == counted, (
        f"count() gives {method.count(ODD):,} for {_shape(ODD)}, but {counted:,} parameters train: the formula takes "
        "the hidden layer, or the depth, to be what it is elsewhere"
    )


def _shape(config: ViTConfig) -> str:
    return f"a ViT of width {config.width}, hidden layer {config.hidden}, {config.depth} blocks"


def without_gradient(model: Model) -> set[str]:
    """Names of the trained parameters whose gradient is missing or zero; nothing else may have one."""
    model.zero_grad()
    F.cross_entropy(model(images(4)), torch.tensor([0, 1, 2, 0])).backward()
    wrong = {n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None}
    assert not wrong, f"frozen parameters get a gradient: {_some(wrong)}"
    return {
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().max() > 0)
    }


def gradients(bench: Bench, method: Method, variant: str) -> set[str]:
    """every trained tensor gets gradient by the second step, and nothing else moves

    Returns the names of those that wait for the second step, because what follows them starts at zero.
    """
    model = bench.build(method, variant)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    waiting = without_gradient(model)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    optimiser.step()
    stuck = without_gradient(model)
    assert not stuck, f"these train but get no gradient, in the second step either: {_some(stuck)}"
    optimiser.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == trained(model), f"moved, or did not, against what trains: {_some(moved ^ trained(model))}"
    return waiting


# ---- merging, alpha, files


def merging(bench: Bench, method: Method, variant: str) -> None:
    """merged equals unmerged, with nothing left attached; or an error says why it cannot be"""
    model, cls = shake(bench.build(method, variant)), type(method)
    if not cls.mergeable:
        for attempt in (lambda: merge(model), lambda: method.merge(model, model.methods[method.name])):
            message = _refusal(attempt)
            assert message, "mergeable is False, but merging raises no ValueError"
            assert cls.obstacle in message, f"the error does not give the obstacle: {message}"
        return
    before = model(images())
    merged = merge(model)
    assert not len(merged.methods), "something is still attached after merging"
    difference = gap(merged(images()), before)
    assert difference < EXACT, f"merged and unmerged logits differ by up to {difference:.2g}"
    assert gap(before, bench.plain(variant)(images())) > 1e-2, "changing all that trains changes nothing"
    assert torch.equal(model(images()), before), "merging changed the model itself; it must change the copy only"


def alpha(bench: Bench, method: Method, variant: str) -> None:
    """alpha 0 is the pre-trained function and alpha 1 the tuned one, exactly; between them lies something else"""
    plain, model = bench.plain(variant)(images()), shake(bench.build(method, variant))
    tuned = model(images())
    zero = gap(interpolate(model, 0.0)(images()), plain)
    assert zero == 0.0, f"at alpha 0 logits differ by up to {zero:.2g} from the pre-trained model's"
    assert torch.equal(interpolate(model, 1.0)(images()), tuned), "at alpha 1 the model is not the tuned one"
    middle = interpolate(model, 0.5)(images())
    assert min(gap(middle, plain), gap(middle, tuned)) > 1e-4, "alpha 0.5 is the same as one of the ends"
    assert gap(interpolate(model, 1e-4)(images()), plain) < 1e-2, "alpha 0.0001 is far from alpha 0"


def files(bench: Bench, method: Method, variant: str) -> None:
    """a saved file brings back the same model, and the same ones between it and the pre-trained one"""
    model = shake(bench.build(method, variant))
    with tempfile.TemporaryDirectory() as folder:
        again = load_adapter(save_adapter(model, Path(folder) / "a.safetensors")).eval()
    assert gap(model(images()), again(images())) == 0.0, "the model from the file gives other logits"
    assert again.spec == model.spec, "the model from the file has another spec"
    for value in (0.0, 0.4):
        difference = gap(interpolate(again, value)(images()), interpolate(model, value)(images()))
        assert difference == 0.0, f"at alpha {value} the model from the file gives other logits"
    assert trained(again) == trained(model), "the model from the file trains other parameters"


# ---- ways of running


def batch_of_one(bench: Bench, method: Method, variant: str) -> None:
    """an image alone gives what it gives in a batch, and can be trained on"""
    model = shake(bench.build(method, variant))
    assert model(images(1)).shape == (1, CLASSES), "a batch of one does not give one row of logits"
    difference = gap(model(images()[:1]), model(images())[:1])
    assert difference < EXACT, f"an image's logits depend on the batch, by up to {difference:.2g}"
    model.train()(images(1)).sum().backward()


def bfloat16(bench: Bench, method: Method, variant: str) -> None:
    """it works in bfloat16, under autocast and with converted weights, with finite gradients"""
    model = shake(bench.build(method, variant), 0.02)
    reference = model(images())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(images())
        model.train()(images()).sum().backward()
    half = copy.deepcopy(model).eval().to(torch.bfloat16)(images().bfloat16())
    between = interpolate(model.eval(), 0.5).to(torch.bfloat16)(images().bfloat16())
    assert half.dtype == between.dtype == torch.bfloat16, f"bfloat16 in, {half.dtype} and {between.dtype} out"
    assert between.isfinite().all(), "at alpha 0.5 in bfloat16 logits are not finite"
    size = reference.abs().max().item()
    assert gap(mixed.float(), reference) < 0.1 * size, "under autocast logits are far from those in float32"
    assert gap(half.float(), reference) < 0.1 * size, "in bfloat16 logits are far from those in float32"
    finite = all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert finite, "under autocast a gradient is missing or not finite"


def compiled(bench: Bench, method: Method, variant: str) -> None:
    """torch.compile makes one graph of it, with the same logits"""
    model = shake(bench.build(method, variant))
    torch._dynamo.reset()
    graph = torch.compile(model, backend="aot_eager", fullgraph=True)
    for size in (2, 2):
        assert gap(graph(images(size)), model(images(size))) < EXACT, "compiled and plain logits differ"
    graph(images()).sum().backward()
    stuck = without_gradient(model)
    assert not stuck, f"compiled, these get no gradient: {_some(stuck)}"


def copies(bench: Bench, method: Method, variant: str) -> None:
    """a deep copy is a model of its own, and the same seed makes the same start"""
    model = bench.build(method, variant)
    before = model(images())
    other = copy.deepcopy(model)
    assert torch.equal(other(images()), before), "a copy gives other logits"
    shake(other)
    same = torch.equal(other(images()), shake(bench.build(method, variant))(images()))
    assert same, "the copy's edits are not all its own: make edits objects, not closures"
    assert torch.equal(model(images()), before), "changing the copy changes the original"
    other.train()
    assert not model.methods.training, "the copy's training mode reaches the original"
    own = {p.data_ptr() for p in model.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in other.parameters()), "the copy shares tensors with the original"
    assert torch.equal(bench.build(method, variant)(images()), before), "the same seed makes another start"


RULES: dict[str, Callable[[Bench, Method, str], Any]] = {
    rule.__name__: rule
    for rule in (
        description,
        tuning_space,
        hyper_parameters,
        start,
        own_parameters,
        count,
        gradients,
        merging,
        alpha,
        files,
        batch_of_one,
        bfloat16,
        copies,
        compiled,
    )
}
SLOW = ("compiled",)


@dataclass(frozen=True)
class Outcome:
    """What became of one rule: kept on every backbone, or what was wrong on the first where it was not."""

    rule: str
    about: str
    kept: bool
    message: str = ""

    def __str__(self) -> str:
        return f"{'ok    ' if self.kept else 'BROKEN'}  {self.rule:<17}{self.message or self.about}"


def check(method: Method, *, slow: bool = True, variants: Sequence[str] = tuple(VARIANTS)) -> list[Outcome]:
    """Try every rule on every backbone (the slow one, compiling, on the plain backbone only, or not at all)."""
    with bench() as small:
        return [_outcome(small, rule, method, variants) for rule in RULES if slow or rule not in SLOW]


def _outcome(small: Bench, name: str, method: Method, variants: Sequence[str]) -> Outcome:
    rule = RULES[name]
    about = (rule.__doc__ or "").split("\n")[0]
    for variant in variants if name not in SLOW else ("plain",):
        try:
            rule(small, method, variant)
        except AssertionError as error:
            return Outcome(name, about, False, f"on the {variant} backbone: {error}")
        except Exception as error:  # whatever a method's file may raise is what its author needs to see
            return Outcome(name, about, False, f"on the {variant} backbone: raised {type(error).__name__}: {error}")
    return Outcome(name, about, True)
