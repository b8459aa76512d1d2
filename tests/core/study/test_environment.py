"""What is written down of the machine: limits on its instruction set too; and where equal bits are promised."""

import copy
import json
import os
import subprocess
import sys

import pytest

from petl_core.study.environment import LIMITS, bits_promised, describe_environment


@pytest.fixture
def here(monkeypatch):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    return describe_environment("cpu")


def test_it_tells_processor_limits_and_versions(here):
    assert here["limits"] == {}
    assert set(here["processor"]) == {"vendor", "model", "extensions"}
    assert here["versions"]["torch"] and here["threads"] == 1


def test_another_process_with_a_limited_instruction_set_says_so(here):
    limits = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
    code = "import json; from petl_core.study.environment import *; print(json.dumps(describe_environment('cpu')))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["limits"] == limits
    assert told["cpu_capability"] == "DEFAULT"
    assert told["processor"] == here["processor"]  # what the processor is does not change
    assert not bits_promised(here, told)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", "cuda"),
        ("device_name", "another processor"),
        ("threads", 2),
        ("cpu_capability", "NO AVX"),
        ("limits", {"MKL_CBWR": "AVX2"}),
        ("processor", {}),
        ("versions", {"torch": "0"}),
    ],
)
def test_bits_are_promised_on_equal_environments_only(here, key, value):
    other = copy.deepcopy(here)
    assert bits_promised(here, other)
    other[key] = {**here[key], **value} if key == "versions" else value
    assert not bits_promised(here, other)


def test_python_and_this_package_do_not_break_the_promise(here):
    other = copy.deepcopy(here)
    other["versions"] |= {"python": "3.99", "petl_core": "not installed"}
    assert bits_promised(here, other)


def test_older_records_tell_less_and_are_judged_by_what_they_tell(here):
    older = {key: value for key, value in here.items() if key not in ("processor", "limits")}
    assert bits_promised(here, older)
    assert not bits_promised({**here, "limits": {"MKL_CBWR": "AVX2"}}, older)
