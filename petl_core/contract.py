"""The contract that every method keeps: one function for each rule, whose ``AssertionError`` says what broke.

A rule takes a ``Bench`` (small backbones with random weights: a plain ViT, CLIP's and DINOv2's), the method and a
backbone's name. The tests try all rules on the registry, and on more kinds of ViT; ``check`` (``python -m petl_guide
check-method my_method.py``) tries them on a method of your own. Whether it is *good* is not asked.
"""

from __future__ import annotations

import copy
import itertools
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
from petl_core.methods import Method, meta_count
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
    """The small backbones as files, with weights large enough for every path to matter."""

    files: Mapping[str, str]

    def build(self, method: str | Method | list[Method], variant: str = "plain", **hyper: Any) -> Model:
        """A model with the method, in evaluation mode, with the backbone's head: equal features give equal logits."""
        return create_model(self.files[variant], method, keep_head=True, **hyper).eval()

    def plain(self, variant: str = "plain") -> Model:
        """The pre-trained function."""
        return self.build("linear", variant)


@contextmanager
def bench(kinds: Mapping[str, ViTConfig] = VARIANTS) -> Iterator[Bench]:
    """A bench of these backbones, whose files are there until the ``with`` ends."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bench({name: _backbone(kinds[name], Path(folder, f"{name}.safetensors")) for name in kinds})


def _backbone(config: ViTConfig, path: Path) -> str:
    with torch.random.fork_rng(devices=[]):
        vit, random = ViT(config, CLASSES), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, p in vit.named_parameters():
            start = 1.0 if key.endswith((".gamma", "norm1.weight", "norm2.weight", "norm.weight")) else 0.0
            p.copy_(start + 0.2 * torch.randn(p.shape, generator=random))
    return str(save_backbone(vit, path))


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


def trained(model: nn.Module) -> set[str]:
    """Names of the parameters that train."""
    return {name for name, p in model.named_parameters() if p.requires_grad}


def without_gradient(model: Model) -> set[str]:
    """Names of the trained parameters whose gradient is missing or zero; nothing else may have one."""
    model.zero_grad()
    F.cross_entropy(model(images(4)), torch.tensor([0, 1, 2, 0])).backward()
    wrong = {n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None}
    assert not wrong, f"frozen parameters get a gradient: {_some(wrong)}"
    moving = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    return trained(model) - moving


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _refusal(call: Callable[..., Any], *args: Any, **named: Any) -> str:
    """The message of the ``ValueError`` that a call raises; empty if it raises none."""
    try:
        call(*args, **named)
    except ValueError as error:
        return str(error)
    return ""


Rule = Callable[[Bench, Method, str], Any]
RULES: dict[str, Rule] = {}
SLOW = ("compiled",)


def rule(function: Rule) -> Rule:
    """Decorator: a rule, under its function's name; the docstring's first line says what it asks."""
    RULES[function.__name__] = function
    return function


@rule
def description(bench: Bench, method: Method, variant: str) -> None:
    """the file says paper, formula, sites, parameters, merging; the class its title, family, size"""
    cls = type(method)
    missing = {part for part in PARTS if part not in (sys.modules[cls.__module__].__doc__ or "")}
    assert not missing, f"the file's docstring lacks {_some(missing)}"
    assert cls.family in FAMILIES, f"family is '{cls.family}'; allowed: {', '.join(FAMILIES)}"
    assert "arXiv" in cls.paper, f"paper is '{cls.paper}'; write authors, year and arXiv number"
    assert cls.size_field in (None, *SIZES), f"size_field is '{cls.size_field}'; allowed: None, {', '.join(SIZES)}"


@rule
def tuning_space(bench: Bench, method: Method, variant: str) -> None:
    """three learning rates or more; every value to be tuned over is allowed, and the default is one of them"""
    cls, default = type(method), methods.get(method.name).hyper()
    assert len(set(cls.lrs)) == len(cls.lrs) >= 3, f"lrs is {cls.lrs}; give three or more, each once"
    for space in (cls.space, cls.published_space):
        for values in itertools.product(*space.values()):
            methods.get(method.name, **dict(zip(space, values, strict=True)))
    for field, values in cls.space.items():
        assert default[field] in values, f"{field} is tuned over {values}, without its default, {default[field]!r}"
        most = 2 if field == cls.size_field else 3
        assert len(set(values)) == len(values) <= most, f"{field} has the values {values}; at most {most}, each once"


@rule
def hyper_parameters(bench: Bench, method: Method, variant: str) -> None:
    """the hyper-parameters make the same method again, cannot be changed, and impossible sizes are refused"""
    assert methods.get(method.name, **method.hyper()) == method, "hyper() does not make the same method again"
    cls: Any = type(method)
    assert "__dataclass_params__" in vars(cls), "the class is no dataclass: write @dataclass(frozen=True)"
    for value in (0, -1, 2.5, "8", True, None) if cls.size_field else ():
        message = _refusal(methods.get, method.name, **{cls.size_field: value})
        says = f"{method.name}: {cls.size_field} is" in message and "whole number, 1 or more" in message
        assert says, f"{cls.size_field}={value!r} is not refused as the type Positive does; the error is '{message}'"


@rule
def start(bench: Bench, method: Method, variant: str) -> None:
    """before training the model is the pre-trained function, exactly, if identity_at_start says so"""
    far, same = gap(bench.build(method, variant)(images()), bench.plain(variant)(images())), method.identity_at_start
    assert far == 0.0 or not same, f"identity_at_start is promised, but logits differ by up to {far:.2g}"
    assert far > 1e-3 or same, "identity_at_start is False, but nothing changes: let it be True"


@rule
def own_parameters(bench: Bench, method: Method, variant: str) -> None:
    """exactly the head, what was added, and what unfreezes() names train; no tensor has two names"""
    model = bench.build(method, variant)
    names = {n for n, _ in model.named_parameters()}
    backbone = {n for n, _ in bench.plain(variant).named_parameters()} - HEAD
    added = names - HEAD - backbone
    wrong = {n for n in added if not n.startswith(f"methods.{method.name}.")}
    assert not wrong, f"outside methods.{method.name} appear {_some(wrong)}: an edit must not register the ViT's own"
    wanted = added | HEAD | {n for n in backbone if method.unfreezes(n, model.config)}
    assert wanted <= trained(model), f"these should train and do not: {_some(wanted - trained(model))}"
    assert trained(model) <= wanted, f"these train and should not: {_some(trained(model) - wanted)}"
    assert not (twice := set(model.state_dict()) ^ names), f"{_some(twice)}: a tensor with two names, or a buffer"


@rule
def count(bench: Bench, method: Method, variant: str) -> None:
    """count() equals the number of parameters, on the small backbones and on another shape"""
    numbers = {model.config: count_trainable(model) for model in [bench.build(method, variant)]}
    if not _refusal(meta_count, method, ODD):  # a method may refuse a shape, if it says so
        numbers[ODD] = meta_count(method, ODD)
    for config, counted in numbers.items():
        shape, formula = (
            f"width {config.width}, hidden layer {config.hidden}, {config.depth} blocks",
            method.count(config),
        )
        assert formula == counted, f"count() gives {formula:,} for a ViT of {shape}, but {counted:,} train"


@rule
def gradients(bench: Bench, method: Method, variant: str) -> None:
    """every trained tensor gets gradient by the second step, and nothing else moves"""
    model = bench.build(method, variant)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    without_gradient(model)  # some wait for the second step, because what follows them starts at zero
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    optimiser.step()
    assert not (stuck := without_gradient(model)), f"no gradient, in the second step either: {_some(stuck)}"
    optimiser.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == trained(model), f"moved, or did not, against what trains: {_some(moved ^ trained(model))}"


@rule
def merging(bench: Bench, method: Method, variant: str) -> None:
    """merged equals unmerged, with nothing left attached; or an error says why it cannot be"""
    model, cls = shake(bench.build(method, variant)), type(method)
    if not cls.mergeable:
        for message in (_refusal(merge, model), _refusal(method.merge, model, model.methods[method.name])):
            assert cls.obstacle in message, f"there is an obstacle, but the error of merging is '{message}'"
        return
    before = model(images())
    merged = merge(model)
    assert not len(merged.methods), "something is still attached after merging"
    assert (far := gap(merged(images()), before)) < EXACT, f"merged and unmerged logits differ by up to {far:.2g}"
    assert gap(before, bench.plain(variant)(images())) > 1e-2, "changing all that trains changes nothing"
    assert torch.equal(model(images()), before), "merging changed the model itself, not only the copy"


@rule
def alpha(bench: Bench, method: Method, variant: str) -> None:
    """alpha 0 is the pre-trained function and alpha 1 the tuned one, exactly; between them lies something else"""
    plain, model = bench.plain(variant)(images()), shake(bench.build(method, variant))
    tuned = model(images())
    far = gap(interpolate(model, 0.0)(images()), plain)
    assert far == 0.0, f"at alpha 0 logits differ by up to {far:.2g} from the pre-trained model's"
    assert torch.equal(interpolate(model, 1.0)(images()), tuned), "at alpha 1 the model is not the tuned one"
    middle = interpolate(model, 0.5)(images())
    assert min(gap(middle, plain), gap(middle, tuned)) > 1e-4, "alpha 0.5 is the same as one of the ends"
    assert gap(interpolate(model, 1e-4)(images()), plain) < 1e-2, "alpha 0.0001 is far from alpha 0"


@rule
def files(bench: Bench, method: Method, variant: str) -> None:
    """a saved file brings back the same model, and the same ones between it and the pre-trained one"""
    model = shake(bench.build(method, variant))
    with tempfile.TemporaryDirectory() as folder:
        again = load_adapter(save_adapter(model, Path(folder) / "a.safetensors")).eval()
    for value in (1.0, 0.0, 0.4):
        far = gap(interpolate(again, value)(images()), interpolate(model, value)(images()))
        assert far == 0.0, f"the model from the file gives other logits (alpha {value:g})"
    assert again.spec == model.spec, "the model from the file has another spec"
    assert trained(again) == trained(model), "the model from the file trains other parameters"


@rule
def batch_of_one(bench: Bench, method: Method, variant: str) -> None:
    """an image alone gives what it gives in a batch, and can be trained on"""
    model = shake(bench.build(method, variant))
    assert model(images(1)).shape == (1, CLASSES), "a batch of one does not give one row of logits"
    assert gap(model(images()[:1]), model(images())[:1]) < EXACT, "an image's logits depend on the batch"
    model.train()(images(1)).sum().backward()


@rule
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
    for how, logits in (("under autocast", mixed), ("with converted weights", half)):
        assert gap(logits.float(), reference) < 0.1 * reference.abs().max(), f"logits {how} are far from float32's"
    finite = all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert finite, "under autocast a gradient is missing or not finite"


@rule
def copies(bench: Bench, method: Method, variant: str) -> None:
    """a deep copy is a model of its own, and the same seed makes the same start"""
    model, again = (bench.build(method, variant) for _ in range(2))
    before, other = model(images()), copy.deepcopy(model)
    assert torch.equal(again(images()), before), "the same seed makes another start"
    assert torch.equal(other(images()), before), "a copy gives other logits"
    own = {p.data_ptr() for p in model.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in other.parameters()), "the copy shares tensors with the original"
    same = torch.equal(shake(other)(images()), shake(again)(images()))
    assert same, "the copy's edits are not all its own: make edits objects, not closures"
    assert torch.equal(model(images()), before), "changing the copy changes the original"
    other.train()
    assert not model.methods.training, "the copy's training mode reaches the original"


@rule
def compiled(bench: Bench, method: Method, variant: str) -> None:
    """torch.compile makes one graph of it, with the same logits"""
    model = shake(bench.build(method, variant))
    torch._dynamo.reset()
    graph = torch.compile(model, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert gap(graph(images()), model(images())) < EXACT, "compiled and plain logits differ"
    graph(images()).sum().backward()
    assert not (stuck := without_gradient(model)), f"compiled, these get no gradient: {_some(stuck)}"


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
    about = (RULES[name].__doc__ or "").split("\n")[0]
    for variant in variants if name not in SLOW else ("plain",):
        try:
            RULES[name](small, method, variant)
        except Exception as error:  # whatever a method's file may raise is what its author needs to see
            raised = "" if isinstance(error, AssertionError) else f"raised {type(error).__name__}: "
            return Outcome(name, about, kept=False, message=f"on the {variant} backbone: {raised}{error}")
    return Outcome(name, about, kept=True)
