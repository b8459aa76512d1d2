"""What decides the bits of a run besides its spec: the processor, what limits its use, the versions that compute."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

# What libraries are told to leave unused of a processor, or to prefer; each changes bits. DNNL is oneDNN's older name.
LIMITS = ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE"]
LIMITS += ["DNNL_MAX_CPU_ISA", "DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"]
LIMITS += ["MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"]
# Extensions of the instruction set by which the libraries choose their code, as Linux calls them on x86 and on ARM.
EXTENSIONS = {"sse4_1", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"}
EXTENSIONS |= {"avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16", "asimd", "asimddp", "bf16", "i8mm"}
EXTENSIONS |= {"sve", "sve2"}


def describe_environment(device: str) -> dict[str, Any]:
    """What decides a run's bits besides its spec, as kept in every record: processor, limits on it, versions."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    versions = {p: _version(p) for p in ("petl_core", "torch", "numpy", "timm")}
    return {
        "device": device,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor_kind(),
        "limits": {limit: os.environ[limit] for limit in LIMITS if os.environ.get(limit)},
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **versions},
    }


def bits_promised(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Must equal specs give equal bits in these two environments, as ``describe_environment`` tells them?

    True where device, processor, limits, threads and the versions of what computes are equal. Older records do not tell
    ``processor``: theirs is then taken for equal where its name and its capability are. Nor do they tell ``limits``.
    """
    if "processor" in one and "processor" in other and one["processor"] != other["processor"]:
        return False
    same = ("device", "device_name", "threads", "cpu_capability", "system")
    versions = ("torch", "numpy", "timm")
    return (
        all(one[key] == other[key] for key in same)
        and one.get("limits", {}) == other.get("limits", {})
        and all(one["versions"][name] == other["versions"][name] for name in versions)
    )


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core, by name; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _processor_kind() -> dict[str, Any]:
    """Who made the processor, its model by number (a cloud's names tell little), and which of ``EXTENSIONS`` it has."""
    told = _cpuinfo()
    numbers = (told.get("cpu family", "?"), told.get("model") or told.get("CPU part", "?"), told.get("stepping", "?"))
    return {
        "vendor": told.get("vendor_id") or told.get("CPU implementer", "unknown"),
        "model": "family {} model {} stepping {}".format(*numbers),
        "extensions": sorted(EXTENSIONS & set((told.get("flags") or told.get("Features", "")).split())),
    }
