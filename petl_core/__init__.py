"""Parameter-efficient fine-tuning of Vision Transformers: the public interface.

``import petl_core as pc`` loads nothing but this file; each name below is loaded when it is first used, so that the
import is quick and timm is only needed for timm's backbones.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from typing import TYPE_CHECKING, Any

from petl_core.compare import compare
from petl_core.utils import UserError, __version__

if TYPE_CHECKING:
    from petl_core import methods
    from petl_core.compare.predict import predict
    from petl_core.data import Task, load_task
    from petl_core.models.adapters import load_adapter, save_adapter
    from petl_core.models.build import count_trainable, create_model, interpolate, merge
    from petl_core.models.export import export
    from petl_core.models.weights import config_of, save_backbone
    from petl_core.training.recipe import Recipe
    from petl_core.training.train import Run, train
    from petl_core.vit import ViT, ViTConfig

_HOME = {
    "methods": "petl_core",
    "Task": "petl_core.data.task",
    "load_task": "petl_core.data.load",
    "load_adapter": "petl_core.models.adapters",
    "save_adapter": "petl_core.models.adapters",
    "count_trainable": "petl_core.models.build",
    "create_model": "petl_core.models.build",
    "interpolate": "petl_core.models.build",
    "merge": "petl_core.models.build",
    "export": "petl_core.models.export",
    "predict": "petl_core.compare.predict",
    "config_of": "petl_core.models.weights",
    "save_backbone": "petl_core.models.weights",
    "Recipe": "petl_core.training.recipe",
    "Run": "petl_core.training.train",
    "train": "petl_core.training.train",
    "ViT": "petl_core.vit",
    "ViTConfig": "petl_core.vit",
}
MOVED = {  # modules that once were here
    "adapters": "petl_core.models.adapters",
    "analysis": "petl_guide",
    "augment": "petl_core.training.augment",
    "backbones": "petl_core.models.weights",
    "book": "book.build",
    "book_formulas": "book.formulas",
    "book_icons": "book.icons",
    "book_inputs": "book.inputs",
    "book_loads": "book.loads",
    "book_print": "book.paper",
    "book_site": "book.site",
    "book_stage": "book.stage",
    "budget": "petl_core.study.budget",
    "checkpoints": "petl_core.models.formats",
    "clip": "petl_core.models.text_tower",
    "costs": "petl_make.costs",
    "errors": "petl_core.utils",
    "estimate": "petl_core.study.estimate",
    "evaluation": "petl_core.training.evaluation",
    "feeds": "petl_core.training.feeds",
    "files": "petl_core.utils",
    "measures": "petl_core.study.measures",
    "model": "petl_core.models.build",
    "notebook_files": "petl_guide.notebook_files",
    "notebooks": "petl_guide.notebooks",
    "packs": "petl_core.study.packs",
    "parts": "petl_core.study.parts",
    "paths": "petl_core.utils",
    "pretrain": "petl_make.mini",
    "pretrain_clip": "petl_make.mini_clip",
    "probe": "petl_core.training.probe",
    "profiles": "petl_core.study.profiles",
    "profiles_large": "petl_core.study.profiles_large",
    "protocol": "petl_core.study.protocol",
    "ray_executor": "petl_core.study.ray_executor",
    "recipe": "petl_core.training.recipe",
    "records": "petl_core.study.records",
    "report": "petl_guide",
    "steps": "petl_core.training.steps",
    "timm_names": "petl_core.models.timm_names",
    "train": "petl_core.training.train",
    "workers": "petl_core.study.runner",
    "zero_shot": "petl_core.models.zero_shot",
}

__all__ = [
    "Recipe",
    "Run",
    "Task",
    "UserError",
    "ViT",
    "ViTConfig",
    "__version__",
    "compare",
    "config_of",
    "count_trainable",
    "create_model",
    "export",
    "interpolate",
    "load_adapter",
    "load_task",
    "merge",
    "methods",
    "predict",
    "save_adapter",
    "save_backbone",
    "train",
]


class _Moved(importlib.abc.MetaPathFinder):
    """Says where a module went that is asked for by its old name."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        package, _, name = fullname.partition(".")
        if package == __name__ and name.partition(".")[0] in MOVED:
            raise ModuleNotFoundError(f"'{fullname}' has moved: see '{MOVED[name.partition('.')[0]]}'")


sys.meta_path.insert(0, _Moved())


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'petl_core' has no attribute '{name}'")
    if name == "methods":
        return importlib.import_module("petl_core.methods")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
