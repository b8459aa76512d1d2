"""Measured costs: exact parts against formulas written out here, peaks on allocations of known size, shipped files.

Times are never compared with anything: only that there are as many as rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import petl_core as pc
from petl_core import methods
from petl_core.models.weights import config_of
from petl_core.utils import DATA, UserError
from petl_core.vit import ViT, ViTConfig
from petl_make import __main__ as command
from petl_make import costs

CONFIG = ViTConfig(32, 8, 24, 3, 4, mlp_ratio=3.0)
D, H, HIDDEN, N, CLASSES = 24, 4, 72, 17, 5
FULL = 8 * D + H + 4 + 2 * HIDDEN  # numbers that a block saves for each token if all of it trains
THROUGH = 6 * D + H + 4 + HIDDEN  # if its matrices are frozen but gradient passes through
TOP = 2 * D + 2  # the last LayerNorm, and its output, which the head reads
SHIPPED = sorted((DATA / "costs").glob("*.json"))


def vit(name: str, **hyper: object) -> ViT:
    model = ViT(CONFIG, CLASSES)
    method = methods.get(name, **hyper)
    module = method.attach(model)
    if module is not None:
        model.methods[name] = module
    for key, p in model.named_parameters():
        p.requires_grad_(key.startswith(("head.", "methods.")) or method.unfreezes(key, CONFIG))
    return model


@pytest.mark.parametrize(
    ("name", "hyper", "numbers"),
    [
        ("linear", {}, D),
        ("full", {}, 3 * FULL + TOP),
        ("bitfit", {}, 3 * THROUGH + TOP),
        ("layernorm", {}, 3 * THROUGH + TOP),
        ("selective", {"part": "block", "index": (2,)}, FULL + TOP),
        ("selective", {"part": "block", "index": (1,)}, FULL + THROUGH + TOP),
        ("selective", {"part": "block", "index": (0,)}, FULL + 2 * THROUGH + TOP),
        # gradient starts after LN1 of block 0; each block saves A's input and B's
        ("lora", {"rank": 5, "dropout": 0.0}, 3 * (THROUGH + D + 5) - (D + 2) + TOP),
    ],
)
def test_saved_activations_are_what_the_formula_says(name: str, hyper: dict, numbers: int) -> None:
    for batch in (1, 4):
        assert costs.saved_activations(vit(name, **hyper), torch.randn(batch, 3, 32, 32)) == 4 * batch * N * numbers


def test_each_storage_counts_once_and_parameters_and_images_not_at_all() -> None:
    x = torch.randn(8, 16)
    layers = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    assert costs.saved_activations(layers, x) == 4 * 8 * (32 + 32)  # what GELU and the last layer read

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            one, other = self.layer(x).chunk(2, dim=1)
            return one * other

    assert costs.saved_activations(Halves(), x) == 4 * 8 * 10  # two views of one storage


@pytest.fixture(scope="module")
def measured() -> dict[str, dict]:
    settings = costs.Settings("mini", batch=2, classes=10, rounds=2)
    found = costs.measure_all(["lora", "ssf", "vpt_deep", "linear"], settings, separate=False)
    assert [row["method"] for row in found["methods"]] == ["lora", "ssf", "vpt_deep", "linear", "full"]
    return {row["method"]: row for row in found["methods"]}


def test_the_parts_of_training_memory(measured: dict[str, dict]) -> None:
    for name, row in measured.items():
        model = pc.create_model("mini", name, num_classes=10)
        trained = [p for p in model.parameters() if p.requires_grad]
        numbers = sum(p.numel() for p in trained)
        assert row["parameters"] == row["formula"] == pc.count_trainable(model)
        assert row["weights"] == 4 * sum(p.numel() for p in model.parameters())
        assert row["gradients"] == 4 * numbers
        assert row["optimiser"] == 8 * numbers + 4 * len(trained)  # two moments, and a step count for each tensor
        assert row["memory"] == row["weights"] + row["gradients"] + row["optimiser"] + row["activations"]
        assert row["peak"] is None  # all were measured in one process
        assert all(len(row[key]) == 2 for key in row if key.startswith(("step", "inference")))


def test_activations_are_counted_the_same_beside_operations(measured: dict[str, dict]) -> None:
    for name, row in measured.items():
        model = pc.create_model("mini", name, num_classes=10, pretrained=False).train()
        assert row["activations"] == costs.saved_activations(model, torch.randn(2, 3, 32, 32))


def test_the_file_is_what_was_trained_and_a_header(measured: dict[str, dict]) -> None:
    for row in measured.values():
        assert row["head_bytes"] == 4 * (128 * 10 + 10)
        assert 0 < row["file_bytes"] - row["head_bytes"] - 4 * row["parameters"] < 16_000


def test_a_merged_model_costs_what_the_plain_one_does(measured: dict[str, dict]) -> None:
    assert measured["lora"]["unmerged_flops"] > measured["lora"]["plain_flops"]
    for name in ("lora", "ssf", "linear", "full"):
        row = measured[name]
        assert row["merged_flops"] == row["plain_flops"]
        assert row["merged_weights"] == row["plain_weights"] <= row["weights"]
    assert "merged_flops" not in measured["vpt_deep"]


def test_operations_of_a_step(measured: dict[str, dict]) -> None:
    """Two thirds of full's: without gradients for frozen matrices; linear goes through the backbone forwards only."""
    forward = measured["full"]["plain_flops"]
    assert measured["linear"]["training_flops"] == pytest.approx(forward, rel=0.001)
    assert 2.8 * forward < measured["full"]["training_flops"] < 3.2 * forward
    assert 1.9 * forward < measured["ssf"]["training_flops"] < 2.2 * forward


def test_the_peak_of_a_process_is_what_it_allocated() -> None:
    code = (
        "import torch; from petl_make.memory import Peak; p = Peak('cpu'); "
        "x = torch.ones(50_000_000); y = x + 1; del y; print(p.bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 396e6 <= int(done.stdout) < 440e6


def test_the_command_measures_in_its_own_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "costs.json"
    settings = ["costs", "--backbone", "mini", "--batch", "2", "--classes", "10", "--rounds", "1"]
    assert command.main([*settings, "--methods", "bitfit", "--out", str(out)]) == 0
    assert capsys.readouterr().err == "measuring bitfit\nmeasuring full\n"
    found = costs.read(out)
    assert [row["method"] for row in found["methods"]] == ["bitfit", "full"]
    assert found["settings"]["batch"] == 2 and found["environment"]["device"] == "cpu"
    for row in found["methods"]:
        assert 0.5 * row["memory"] < row["peak"] < 500e6
    again = out.read_bytes()
    assert command.main([*settings, "--methods", "bitfit", "--out", str(out)]) == 0
    assert out.read_bytes() == again and capsys.readouterr().err == ""  # nothing was measured again
    for wrong, word in (
        ([], "--out FILE"),
        (["--out", str(tmp_path / "no" / "x.json")], "no folder"),
        (["--methods", "lorra", "--out", str(out)], "did you mean 'lora'"),
        (["--device", "tpu", "--out", str(out)], "tpu"),
        (["--rounds", "0", "--out", str(out)], "rounds is 0"),
    ):
        assert command.main([*settings, *wrong]) == 2
        assert word in capsys.readouterr().err


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    for text in ("{", '{"format": 99, "methods": [1]}', "[]", '{"format": 1, "methods": []}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"costs\.json is no file of costs"):
            costs.read(path)
    with pytest.raises(UserError, match="no file of costs"):
        costs.read(tmp_path / "none.json")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_costs_are_of_todays_methods_and_shape(path: Path) -> None:
    found = costs.read(path)
    config = config_of(found["settings"]["backbone"])
    assert sorted(row["method"] for row in found["methods"]) == methods.names()
    for row in found["methods"]:
        assert row["hyper"] == json.loads(json.dumps(methods.get(row["method"]).hyper()))
        assert row["parameters"] == methods.get(row["method"]).count(config)
        assert row["memory"] == sum(row[part] for part in ("weights", "gradients", "optimiser", "activations"))
        if "merged_flops" in row:
            assert row["merged_flops"] == row["plain_flops"] and row["merged_weights"] == row["plain_weights"]
