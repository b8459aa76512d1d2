"""The spec of a run: everything that decides its result, and the digest that names it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from petl_core import methods
from petl_core.data.task import base_split
from petl_core.training.recipe import Recipe
from petl_core.utils import UserError

CODE_VERSION = 1  # raise it by hand whenever a change of the code changes results: older records are then not reused
# Fields of a spec and of its recipe that came after the first records: they are written, and count in the digest, only
# where they differ from their default, so that older records keep their digests.
LATER_IN_RECIPE = ("l2_sp", "layer_decay", "augment", "checkpointing", "compile", "clip_norm")
LATER = ("head", "measure", *LATER_IN_RECIPE)


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's result. ``weights`` and ``task_digest`` are digests of the bytes used.

    ``hyper`` is completed with the method's defaults, so that a spec says all. ``image_size`` None: the backbone's own.
    Fields of ``LATER`` are written, and count in the digest, where they are not at their default.
    """

    backbone: str
    weights: str
    method: str
    hyper: dict[str, Any]
    task: str
    task_digest: str
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0
    train_on: str = "train1000"
    evaluate_on: str = "test"
    track: bool = False
    max_train: int | None = None
    max_evaluate: int | None = None
    image_size: int | None = None
    head: str = "new"  # or "zero_shot", or "probe" (petl_core.training.probe): what the head starts from
    measure: tuple[str, ...] = ()  # what to measure of the trained model: names of petl_core.study.measures

    def __post_init__(self) -> None:
        hyper = {key: tuple(v) if isinstance(v, list) else v for key, v in self.hyper.items()}
        if "+" not in self.method:
            hyper = methods.get(self.method, **hyper).hyper()
        elif hyper:
            raise UserError(f"the combination '{self.method}' takes no hyper-parameters; it got {', '.join(hyper)}")
        object.__setattr__(self, "hyper", hyper)
        object.__setattr__(self, "measure", tuple(self.measure))

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that name the run: SHA-256 of this spec as canonical JSON with the code version."""
        text = json.dumps([CODE_VERSION, self.to_dict()], sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def stage(self) -> str:
        """ "trial" where the validation images are evaluated, "final" otherwise."""
        return "trial" if base_split(self.evaluate_on) == "val200" else "final"

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        values = {**_written_fields(self), "recipe": _written_fields(self.recipe)}
        return json.loads(json.dumps(values, allow_nan=False))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunSpec:
        """The spec that ``to_dict`` gave."""
        return cls(**{**values, "recipe": Recipe(**values["recipe"])})

    def __hash__(self) -> int:
        return hash(self.digest)

    def __str__(self) -> str:
        size = methods.registry[self.method].size_field if self.method in methods.registry else None
        shown = f" {size} {self.hyper[size]}" if size else ""
        rate = f"lr {self.recipe.lr:g}, drop path {self.recipe.drop_path:g}"
        return f"{self.method}{shown} on {self.task}, {rate}, seed {self.seed}, {self.stage}"


def _written_fields(part: RunSpec | Recipe) -> dict[str, Any]:
    values = {f.name: (getattr(part, f.name), f.default) for f in dataclasses.fields(part)}
    return {name: value for name, (value, default) in values.items() if name not in LATER or value != default}
