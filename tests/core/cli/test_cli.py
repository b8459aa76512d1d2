"""The command line: help that lists what there is, results on stdout, bad input in one line and exit code 2."""

import re
import shlex
import subprocess
import sys

import pytest

from petl_core import cli, methods
from petl_core.data import embedded_names
from petl_core.models.adapters import load_adapter
from petl_core.study.records import Records


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("command", [[], ["list"], ["run"], ["study"], ["compare"]])
def test_help_says_what_can_be_done(capsys, command):
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "usage: python -m petl_core" in text
    assert command == ["list"] or "examples:" in text


@pytest.mark.parametrize("text", [cli.EXAMPLES, cli.RUN_EXAMPLES, cli.STUDY_EXAMPLES, cli.COMPARE_EXAMPLES])
def test_the_examples_of_the_help_are_understood(text):
    lines = re.findall(r"python -m petl_core (.*?)(?:    |\n|$)", text)
    assert lines
    for line in lines:
        if "--help" not in line and "COMMAND" not in line:
            cli.parser().parse_args(shlex.split(line))


@pytest.mark.parametrize(("old", "new"), cli.MOVED.items())
def test_a_command_that_moved_says_where(capsys, old, new):
    code, _, error = call(capsys, *old.split(), "--out", "x")
    assert code == 2 and new in error


def test_arguments_are_looked_at_before_torch_is_imported():
    code = "import sys; from petl_core import cli; cli.main(['run', '--help'])"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "usage:" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


def test_list_shows_methods_tasks_and_profiles(capsys):
    code, text, _ = call(capsys, "list")
    assert code == 0
    for word in (*methods.names(), *embedded_names(), "smoke", "quick", "laptop", "mini", "tuned", "best_on_test"):
        assert word in text
    code, text, _ = call(capsys, "list", "methods")
    assert "lora" in text
    assert "laptop" not in text


def test_run_trains_prints_and_saves(capsys, backbone, tmp_path):
    saved = tmp_path / "adapter.safetensors"
    options = ["--backbone", backbone, "--epochs", "1", "--set", "rank=2", "--lr", "1e-2", "--device", "cpu"]
    code, text, _ = call(capsys, "run", "lora", "digits", *options, "--save", str(saved))
    assert code == 0
    assert re.search(r"lora on digits: \d+\.\d\d % on test \(\d+ images\)", text)
    assert f"trained {4 * 16 * 2 * 2:,} parameters" in text
    model = load_adapter(saved)
    assert model.spec.methods == (methods.get("lora", rank=2),)
    assert model.notes["classes"] == list("0123456789") and model.notes["preparation"]["resize"] == "squash"


def test_run_leaves_the_test_images_alone_when_told(capsys, backbone):
    options = ["--backbone", backbone, "--epochs", "1", "--train-on", "train800", "--evaluate-on", "val200"]
    code, text, _ = call(capsys, "run", "linear", "digits", *options)
    assert code == 0
    assert "% on val200 (200 images)" in text


def test_a_run_that_diverges_says_so(capsys, backbone):
    code, text, _ = call(capsys, "run", "lora", "digits", "--backbone", backbone, "--lr", "1e30", "--epochs", "1")
    assert code == 1
    assert "diverged" in text
    assert "smaller --lr" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "lorra", "digits"], "did you mean 'lora'"),
        (["run", "lora", "digit"], "unknown task"),
        (["run", "lora", "digits", "--backbone", "minni"], "minni"),
        (["run", "lora", "digits", "--set", "rank"], "NAME=VALUE"),
        (["run", "lora", "digits", "--set", "rank=0"], "rank is 0"),
        (["run", "lora", "digits", "--set", "rank=-1"], "rank is -1"),
        (["run", "lora", "digits", "--set", "rnk=1"], "it has: rank"),
        (["run", "lora", "digits", "--lr", "0"], "above 0"),
        (["run", "lora", "digits", "--epochs", "0"], "whole number"),
        (["run", "lora", "digits", "--evaluate-on", "tset"], "no split 'tset'"),
        (["run", "lora", "digits", "--device", "tpu"], "available: cpu"),
        (["run", "lora", "digits", "--seed", "-1"], "seed is -1"),
        (["run", "lora", "digits", "--save", "x.pt"], r"end in \.safetensors"),
        (["run", "lora", "digits", "--save", "no/such/x.safetensors"], "no folder no"),
        (["run", "lora", "folder:/no/such/folder"], "/no/such/folder"),
        (["study", "--profile", "huge"], "the profiles are: smoke, quick, laptop"),
        (["study", "--profile", "smoke", "--part", "tund"], "it has: tuned"),
        (["study", "--profile", "smoke", "--workers", "-1"], "workers is -1"),
        (["study", "--profile", "smoke", "--compare", "no/such"], "no/such.*records"),
        (["study", "--profile", "smoke", "--results", "/dev/null"], "/dev/null is a file"),
        (["study", "--profile", "smoke", "--results", "/dev/null/x"], "cannot write records in /dev/null/x"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, backbone, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "--backbone" not in arguments:
        arguments = [*arguments, "--backbone", backbone]
    code, text, error = call(capsys, *arguments)
    assert code == 2
    assert text == ""
    assert re.search(message, error)
    assert error.startswith("petl_core: ")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "lora", "digits", "--rank", "4"])
    assert ended.value.code == 2
    assert "--rank" in capsys.readouterr().err


def test_a_study_is_run_packed_compared_and_resumed(capsys, backbone, tmp_path):
    results, packed = str(tmp_path / "runs"), str(tmp_path / "packed")
    study = ["study", "--profile", "smoke", "--part", "default", "--backbone", backbone, "--workers", "0"]
    code, text, _ = call(capsys, *study, "--results", results, "--pack", packed)
    assert code == 0
    count = len(Records(results))
    assert f"{count} runs done, 0 were there already, 0 failed" in text
    assert Records(packed).digests() == Records(results).digests()
    code, text, _ = call(capsys, *study, "--results", results, "--compare", packed)
    assert code == 0
    assert f"0 runs done, {count} were there already" in text
    assert f"{count} runs compared" in text and "they agree to the bit" in text
    code, text, _ = call(capsys, *study, "--results", results, "--plan")
    assert code == 0
    assert f"{count} are there already" in text


def test_a_task_whose_logits_cannot_be_left_out_is_refused_before_anything_runs(capsys, tmp_path):
    study = ["study", "--profile", "smoke", "--results", str(tmp_path / "runs"), "--pack", str(tmp_path / "packed")]
    code, _, error = call(capsys, *study, "--no-logits", "nosuch")
    assert code == 2
    assert "--no-logits nosuch: profile 'smoke' has the tasks land_cover, " in error
    assert list(tmp_path.iterdir()) == []
