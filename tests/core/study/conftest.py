"""For the tests of studies: a study of a few runs, a folder for its records, what is unfinished there, and waiting."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petl_core.study import leases
from petl_core.study.profile import Part, Profile
from petl_core.study.profiles import profile
from petl_core.study.records import Records


@pytest.fixture
def tiny(backbone: str) -> Callable[..., Profile]:
    """A profile of two methods, one task, a few images."""

    def make(**changes: Any) -> Profile:
        values = {"tasks": ("digits",), "methods": ("linear", "lora"), "parts": (Part("tuned"),), "max_train": 16}
        return dataclasses.replace(profile("smoke"), **{**values, "backbone": backbone, "max_evaluate": 20, **changes})

    return make


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "runs")


@pytest.fixture
def unfinished(records: Records) -> Callable[[], list[Path]]:
    """Leases, and records half-written."""
    return lambda: [path for path in records.root.glob(".*") if path.name != leases.LOCK]


@pytest.fixture
def wait_for() -> Callable[..., Any]:
    """What a condition gives once it is true."""

    def wait(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)
        return value

    return wait
