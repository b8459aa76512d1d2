"""The registry of fine-tuning methods. Every file of this folder that holds a ``@register`` class is one method.

``names()`` lists them, ``get(name, **hyper_parameters)`` builds one. Nothing else in the package knows a
method by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from typing import Any

from petl_core.methods.base import Method, register, registry

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def names() -> list[str]:
    """All method names, sorted."""
    return sorted(registry)


def get(name: str, **hyper: Any) -> Method:
    """The method called ``name`` with the given hyper-parameters; the others keep their defaults.

    Raises ``ValueError`` for an unknown name, an unknown hyper-parameter, or a value out of range.
    """
    if not isinstance(name, str) or name not in registry:
        close = difflib.get_close_matches(str(name), registry, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"unknown method '{name}'{hint} Known methods: {', '.join(names())}")
    cls = registry[name]
    fields = [f.name for f in dataclasses.fields(cls)]
    for key in hyper:
        if key not in fields:
            allowed = ", ".join(fields) if fields else "none"
            raise ValueError(f"method '{name}' has no hyper-parameter '{key}'; it has: {allowed}")
    return cls(**hyper)


__all__ = ["Method", "get", "names", "register"]
