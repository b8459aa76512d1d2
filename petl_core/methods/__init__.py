"""The registry of fine-tuning methods. Every file of this folder that holds a ``@register`` class is one method.

``names()`` lists them, ``get(name, **hyper_parameters)`` builds one. Nothing else in the package knows a
method by name. ``load("my_method.py")`` adds a method of your own from a file that lies anywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from petl_core.methods.base import Method, register, registry
from petl_core.utils import UserError

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def names() -> list[str]:
    """All method names, sorted."""
    return sorted(registry)


def title(name: str) -> str:
    """A method's name as tables and figures show it; an unregistered name as it is."""
    return registry[name].title if name in registry else name


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


def load(path: str | Path) -> str:
    """Register the method that a Python file outside the package defines, for this process; returns its name.

    The file is run, so load only what you trust. A file loaded before is loaded anew, as it is now.
    Raises ``UserError`` if there is no such file, it does not run, it does not register exactly one method, or it
    takes a name that another method has; the registry is then as before.
    """
    path = Path(path).resolve()
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"there is no Python file {path}; give the .py file that defines your method")
    before = dict(registry)
    module_name = f"petl_core_outside.{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None  # it is a .py file
    module = importlib.util.module_from_spec(spec)
    held = sys.modules.get(module_name)
    for name in [name for name, cls in registry.items() if cls.__module__ == module_name]:
        del registry[name]
    kept = dict(registry)
    sys.modules[module_name] = module  # dataclasses and inspect look there
    try:
        try:
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
        except UserError as error:
            raise UserError(f"{path.name}: {error}") from error
        except Exception as error:
            raise UserError(f"{path.name} does not run: {type(error).__name__}: {error}") from error
        new = [name for name in registry if name not in kept]
        if len(new) != 1:
            found = ", ".join(new) or "none"
            raise UserError(
                f"{path.name} must register one method, it registers {found}; write @register above its dataclass"
            )
    except UserError:
        registry.clear()
        registry.update(before)
        sys.modules.pop(module_name)
        if held is not None:
            sys.modules[module_name] = held
        raise
    return new[0]


@contextmanager
def loaded(path: str | Path) -> Iterator[str]:
    """``load`` for the ``with`` only: afterwards the registry is as before."""
    before = dict(registry)
    try:
        yield load(path)
    finally:
        registry.clear()
        registry.update(before)


__all__ = ["Method", "get", "load", "loaded", "names", "register"]
