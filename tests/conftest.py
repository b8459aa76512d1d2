"""For all tests: one thread, no windows, no network, an empty cache, and the folder of real data if there is one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; bitwise tests must not depend on the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["MPLBACKEND"] = "Agg"
for _name in ("PROFILE", "RESULTS", "RUNS"):
    os.environ.pop(f"PETL_{_name}", None)

REPOSITORY = Path(__file__).resolve().parent.parent
_connect = socket.socket.connect


def _connect_here(self: socket.socket, address: Any) -> None:
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"a test tried to reach {address[0]}; after installation nothing here may use the network")
    _connect(self, address)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked "exhaustive", unless ``-m`` asks for it."""
    if "exhaustive" not in config.getoption("-m"):
        left_out = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_here)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random ViT of two blocks, 32 px, as a backbone file."""
    import torch

    from petl_core.models.weights import save_backbone
    from petl_core.vit import ViT, ViTConfig

    path = tmp_path_factory.mktemp("backbone") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_backbone(ViT(ViTConfig(32, 8, 16, 2, 2), 3), path)
    return str(path)


@pytest.fixture(scope="session")
def petl_data() -> Path:
    """The folder of real images and weights that the variable PETL_DATA names; skips where there is none."""
    folder = os.environ.get("PETL_DATA", "")
    if not folder:
        pytest.skip("PETL_DATA is not set: no folder with real data and weights to test on")
    if not Path(folder).is_dir():
        pytest.skip(f"PETL_DATA is {folder}, which is not a folder")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty cache for all tests, so that none passes because of what an earlier run left there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PETL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def world_task() -> Any:
    """The task "world", read once for all tests."""
    from petl_core.data import load_task

    return load_task("world")
