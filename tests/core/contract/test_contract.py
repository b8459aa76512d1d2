"""The contract finds what is wrong: a right method of one's own, broken in one place for each rule; its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from petl_core import contract, methods
from petl_core.utils import UserError
from petl_guide.figures import style

BROKEN = {  # rule: what to replace in notebooks/ia3.py, by what, and words of the message
    "description": ("Merges: yes", "It merges", "docstring lacks Merges:"),
    "tuning_space": (
        'family="selective",',
        'family="selective", lrs=(1e-3,),',
        "give three or more",
    ),
    "hyper_parameters": (
        '    """No hyper-parameters."""',
        '    size_field = "rank"\n    rank: int = 4',
        "rank=0 is not refused",
    ),
    "start": ("torch.ones", "torch.randn", "identity_at_start is promised"),
    "own_parameters": (
        "        self.alpha = 1.0\n",
        '        self.alpha = 1.0\n        self.register_buffer("extra", torch.ones(1))\n',
        "or a buffer",
    ),
    "count": (
        "(2 * config.width + config.hidden)",
        "6 * config.width",
        r"432 .* hidden layer 72, 3 blocks, but 360 train",
    ),
    "gradients": ("self.factor().to", "self.factor().detach().to", "no gradient, in the second step"),
    "merging": ("            qkv.bias[D:] *= keys_values.factor()\n", "", "merged and unmerged logits differ"),
    "alpha": ("scaled * self.factor()", "scaled * self.scale", "at alpha 0 logits differ"),
    "files": (
        "self.scale if self.alpha == 1.0 else 1.0 + self.alpha * (self.scale - 1.0)",
        "1.0 + self.alpha * self.drawn * (self.scale - 1.0)",
        "the model from the file gives other logits",
    ),
    "batch_of_one": (
        "scaled * self.factor().to(y.dtype)",
        "scaled + scaled.mean(0, keepdim=True) * (self.factor().to(y.dtype) - 1.0)",
        "an image's logits depend on the batch",
    ),
    "bfloat16": ("scaled * self.factor().to(y.dtype)], dim=-1)", "scaled * self.factor()], dim=-1).float()", "dtype"),
    "copies": (
        'sites["act"].append(pair[1])',
        'sites["act"].append(lambda y, x, edit=pair[1]: edit(y, x))',
        "the copy's edits are not all its own: make edits objects",
    ),
    "compiled": (
        "        kept = y",
        "        if self.scale.sum().item() > 1e9:\n            return y\n        kept = y",
        "data-dependent|Tensor.item|graph break",
    ),
}


@pytest.fixture(scope="module")
def source(repository: Path) -> str:
    return (repository / "notebooks" / "ia3.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bench() -> Iterator[contract.Bench]:
    with contract.bench() as small:
        yield small


def replaced(source: str, old: str, new: str) -> str:
    assert old in source
    return source.replace(old, new)


def test_a_right_method_keeps_every_rule_but_compiling_untried(source: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    with methods.loaded(path) as name:
        outcomes = contract.check(methods.get(name), slow=False)
    assert [o.rule for o in outcomes] == [rule for rule in contract.RULES if rule not in contract.SLOW]
    assert all(o.kept and o.about and not o.message for o in outcomes)


def test_every_rule_has_a_fault_here() -> None:
    assert set(BROKEN) == set(contract.RULES)


@pytest.mark.parametrize("rule", BROKEN)
def test_a_fault_is_found_and_said(rule: str, source: str, bench: contract.Bench, tmp_path: Path) -> None:
    old, new, message = BROKEN[rule]
    text = replaced(source, old, new)
    if rule == "files":
        text = text.replace("import torch\n", "import random\n\nimport torch\n", 1)
        text = replaced(
            text, "        self.alpha = 1.0\n", "        self.alpha, self.drawn = 1.0, 1.0 + random.random()\n"
        )
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    with methods.loaded(path) as name, pytest.raises(Exception, match=message) as caught:  # noqa: PT012
        for variant in contract.VARIANTS if rule not in contract.SLOW else ("plain",):
            contract.RULES[rule](bench, methods.get(name), variant)
    assert rule in ("bfloat16", "compiled") or caught.type is AssertionError


def test_a_rule_that_raises_is_broken_too(source: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(replaced(source, "rest, scaled = ", "rest, scaled = 1 / 0, "), encoding="utf-8")
    with methods.loaded(path) as name:
        outcomes = {o.rule: o for o in contract.check(methods.get(name), slow=False)}
    assert outcomes["description"].kept and not outcomes["start"].kept
    assert outcomes["start"].message == "on the plain backbone: raised ZeroDivisionError: division by zero"
    assert "BROKEN  start" in str(outcomes["start"])


# ---- files of one's own


def test_a_loaded_method_is_one_like_the_others_until_the_with_ends(source: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    before = methods.names()
    with methods.loaded(path) as name:
        assert name == "ia3" and methods.names() == sorted([*before, "ia3"])
        assert style.title("ia3") == "(IA)³" and methods.get("ia3").count(contract.VARIANTS["plain"]) == 2 * 6 * 16
        path.write_text(replaced(source, "(IA)³", "IA3 again"), encoding="utf-8")
        assert methods.load(path) == "ia3" and style.title("ia3") == "IA3 again"  # the same file, as it is now
    assert methods.names() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@register(", "dict(", r"mine\.py must register one method, it registers none; write @register"),
        ('"ia3"', '"lora"', r"mine\.py: two methods are called 'lora': petl_core\.methods\.lora and .*another name"),
        ("import torch\n", "import torhc\n", r"mine\.py does not run: ModuleNotFoundError: No module named 'torhc'"),
        ("class IA3(Method):", "class IA3(Method:", r"mine\.py does not run: SyntaxError"),
        (
            "            block.mlp.fc2.weight *= hidden.factor()\n",
            "\n\n@register\nclass Two(IA3):\n    name = 'two'\n",
            "it registers ia3, two;",
        ),
    ],
)
def test_files_that_define_no_method(source: str, tmp_path: Path, old: str, new: str, message: str) -> None:
    path, before = tmp_path / "mine.py", dict(methods.registry)
    path.write_text(replaced(source, old, new), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        methods.load(path)
    assert methods.registry == before
    with pytest.raises(UserError, match=r"no Python file .*none\.py"):
        methods.load(tmp_path / "none.py")


def test_a_file_that_no_longer_runs_leaves_what_it_gave_before(source: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    with methods.loaded(path) as name, contract.bench() as small:
        path.write_text("import torhc\n", encoding="utf-8")
        with pytest.raises(UserError, match="torhc"):
            methods.load(path)
        contract.RULES["description"](small, methods.get(name), "plain")
        assert contract.RULES["merging"](small, methods.get(name), "plain") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("title=", "titel=", "'titel'"), ('paper="Liu', 'paper="", lrs=(1e-3,)) #', "lacks paper")],
)
def test_facts_that_are_unknown_or_missing(source: str, tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(replaced(source, old, new), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        methods.load(tmp_path / "mine.py")


def test_facts_may_be_class_variables(source: str, tmp_path: Path) -> None:
    facts = (
        '    name, title, family, paper = "mine", "Mine", "adapter", "arXiv"\n    obstacle = "none"\n\n    def attach'
    )
    text = "@register\n" + "\n".join(source.split("@register(")[1].split("\n")[1:])
    path = tmp_path / "mine.py"
    path.write_text(source.split("@register(")[0] + replaced(text, "    def attach", facts), encoding="utf-8")
    with methods.loaded(path) as name:
        assert name == "mine" and not methods.get(name).mergeable
