"""Parameter-efficient fine-tuning of Vision Transformers: the public interface.

``import petl_core as pc`` loads nothing but this file; each name below is loaded when it is first used, so that the
import is quick and timm is only needed for timm's backbones.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from petl_core import methods
    from petl_core.adapters import load_adapter, save_adapter
    from petl_core.backbones import config_of, save_backbone
    from petl_core.compare import compare
    from petl_core.data import Task, load_task
    from petl_core.errors import UserError
    from petl_core.model import count_trainable, create_model, interpolate, merge
    from petl_core.train import Recipe, Run, train
    from petl_core.vit import ViT, ViTConfig

_HOME = {
    "methods": "petl_core.methods",
    "compare": "petl_core.compare",
    "config_of": "petl_core.backbones",
    "save_backbone": "petl_core.backbones",
    "Task": "petl_core.data",
    "load_task": "petl_core.data",
    "UserError": "petl_core.errors",
    "count_trainable": "petl_core.model",
    "create_model": "petl_core.model",
    "interpolate": "petl_core.model",
    "load_adapter": "petl_core.adapters",
    "merge": "petl_core.model",
    "save_adapter": "petl_core.adapters",
    "Recipe": "petl_core.train",
    "Run": "petl_core.train",
    "train": "petl_core.train",
    "ViT": "petl_core.vit",
    "ViTConfig": "petl_core.vit",
}

__all__ = [
    "Recipe",
    "Run",
    "Task",
    "UserError",
    "ViT",
    "ViTConfig",
    "compare",
    "config_of",
    "count_trainable",
    "create_model",
    "interpolate",
    "load_adapter",
    "load_task",
    "merge",
    "methods",
    "save_adapter",
    "save_backbone",
    "train",
]


class _Package(ModuleType):
    """A package whose public function ``train`` is not hidden by the module ``train``, whichever is asked for first.

    Python sets ``petl_core.train`` to the module when the module is first imported; here the function takes its place,
    as it would if this file imported it. ``from petl_core.train import ...`` still reaches the module.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and value.__name__ == _HOME.get(name) and hasattr(value, name):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'petl_core' has no attribute '{name}'")
    module = importlib.import_module(_HOME[name])
    value = module if name == "methods" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
