"""Two processes under torchrun train the model that one process trains; workers share out the GPUs."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import easy_task, tiny_model

from petl_core import cli
from petl_core.study.runner import shared_out
from petl_core.training.distributed import Team
from petl_core.training.recipe import Recipe
from petl_core.training.train import predict, train


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_even_and_the_first_is_never_empty(size: int) -> None:
    for count in (1, 2, 7, 64, 65):
        shares = [list(range(count))[Team(rank, size).part(count)] for rank in range(size)]
        assert list(itertools.chain(*shares)) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert shares[0]


def together(folder: Path, *command: str) -> str:
    """What two processes print that torchrun starts in ``folder``."""
    paths = os.pathsep.join([str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *command]
    done = subprocess.run(torchrun, capture_output=True, text=True, timeout=300, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """80 images: batches of 27 do not halve, and of a last batch of 1 one process gets none."""
    script = tmp_path / "train.py"
    script.write_text(
        "import test_distributed, petl_core.training.distributed as d\n"
        "with d.joined('cpu'):\n"
        "    test_distributed.cases(f'{d.team().rank}.safetensors')\n"
    )
    together(tmp_path, str(script))
    cases(tmp_path / "alone.safetensors")
    alone, *both = (load_file(tmp_path / f"{name}.safetensors") for name in ("alone", 0, 1))
    assert len(alone) > 20
    for got in both:
        assert got.keys() == alone.keys()
        for name, tensor in alone.items():
            torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-5, msg=name)


def cases(target: str | Path) -> None:
    """Train in several ways and write what came out: the trained parameters, the logits and the history.

    Not among them: methods that train the keys' bias. Its gradient is zero but for rounding, which Adam makes a step.
    """
    torch.set_num_threads(1)
    found = {}
    recipes = {
        "lora": Recipe(lr=1e-3, epochs=2, batch_size=27, flip=True),
        "layernorm": Recipe(lr=1e-3, epochs=1, batch_size=79, l2_sp=0.1),
        "linear": Recipe(lr=1e-2, epochs=2, batch_size=27),  # its features are shared out too
        "houlsby_adapter": Recipe(lr=1e-3, epochs=1, batch_size=27, augment="crop_flip", checkpointing=True),
    }
    for method, recipe in recipes.items():
        model = tiny_model(method, **({"dropout": 0.0} if method in ("lora", "houlsby_adapter") else {}))
        run = train(model, easy_task(), recipe, seed=1, track=True)
        trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        logits = predict(model, easy_task().split("test")[0], recipe)
        assert np.array_equal(run.logits, logits.numpy().astype(np.float16))  # gathered from both
        history = torch.tensor([[entry["loss"], entry["train_accuracy"]] for entry in run.history])
        values = {**trained, "logits": logits, "history": history, "best": torch.tensor(run.best_accuracy)}
        found |= {f"{method} {name}": value.contiguous() for name, value in values.items()}
    save_file(found, target)


@pytest.mark.slow
def test_the_command_runs_under_torchrun_and_one_process_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [
        "run",
        "lora",
        "digits",
        "--set",
        "dropout=0",
        "--train-on",
        "val200",
        "--batch-size",
        "199",
        "--epochs",
        "2",
    ]
    options += ["--device", "cpu", "--save"]
    (first, second, third) = together(tmp_path, "-m", "petl_core", *options, "two.safetensors").splitlines()
    assert cli.main([*options, "one.safetensors"]) == 0
    assert first == capsys.readouterr().out.splitlines()[0] and "on test (1000 images)" in first
    assert re.search(r"\d s on 2 processes, cpu$", second)
    assert third.startswith("saved two.safetensors")
    two, one = load_file("two.safetensors"), load_file("one.safetensors")
    assert two.keys() == one.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_workers_take_the_gpus_in_turn() -> None:
    assert [shared_out("cuda", i, gpus=2) for i in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [shared_out("cuda", i, gpus=1) for i in range(2)] == ["cuda", "cuda"]
    assert shared_out("cuda:1", 0, gpus=2) == "cuda:1"
    assert shared_out("cpu", 3, gpus=2) == "cpu"
