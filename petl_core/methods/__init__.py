"""The registry of fine-tuning methods. Every file of this folder that holds a ``@register`` class is one method.

``names()`` lists them, ``get(name, **hyper_parameters)`` builds one. Nothing else in the package knows a
method by name. ``load("my_method.py")`` adds a method of your own from a file that lies anywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from petl_core.methods.base import Method, meta_count, register, registry
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
    path, before = Path(path).resolve(), dict(registry)
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"there is no Python file {path}; give the .py file that defines your method")
    try:
        for name, cls in before.items():
            if getattr(sys.modules.get(cls.__module__), "__file__", "") == str(path):
                del registry[name]
        others = set(registry)
        _run(path)
        new = [name for name in registry if name not in others]
        if len(new) != 1:
            raise UserError(
                f"{path.name} must register one method, it registers {', '.join(new) or 'none'}; "
                "write @register above its dataclass"
            )
    except BaseException:
        _set_registry(before)
        raise
    return new[0]


def _run(path: Path) -> None:
    source = path.read_bytes()
    module = ModuleType(f"petl_core_outside.{path.stem}_{hashlib.sha256(bytes(path) + source).hexdigest()[:8]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and inspect look there
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from error
    except Exception as error:
        raise UserError(f"{path.name} does not run: {type(error).__name__}: {error}") from error


@contextmanager
def loaded(path: str | Path) -> Iterator[str]:
    """``load`` for the ``with`` only: afterwards the registry is as before."""
    before = dict(registry)
    try:
        yield load(path)
    finally:
        _set_registry(before)


def _set_registry(content: dict[str, type[Method]]) -> None:
    registry.clear()
    registry.update(content)


__all__ = ["Method", "get", "load", "loaded", "meta_count", "names", "register", "registry", "title"]
