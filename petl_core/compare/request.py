"""What is asked of a comparison, checked before anything is read or trained."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from petl_core import methods as registry
from petl_core.compare.look import card_of_task, task_name
from petl_core.compare.report import Comparison
from petl_core.compare.search import Search, Wish
from petl_core.data.embedded import embedded_names
from petl_core.models import weights as backbones
from petl_core.study.budget import seconds_of
from petl_core.study.execute import default_workers, device_called, fresh_task
from petl_core.study.records import Records
from petl_core.utils import UserError


@dataclass(frozen=True)
class Request:
    """The arguments of ``petl_core.compare.compare``."""

    images: str | Path
    methods: Sequence[str]
    backbone: str
    budget: str | float
    results: str | Path | None
    trials: int | None
    epochs: int | None
    seeds: int | None
    image_size: int | None
    resize: str | None
    group: str | None
    strict: bool
    workers: int | None
    device: str
    progress: bool

    def answer(self) -> Comparison:
        """Check, read the images, search, and report."""
        started = time.monotonic()
        chosen, given = _methods(self.methods), seconds_of(self.budget)
        for name in ("trials", "epochs", "seeds"):
            _whole(name, getattr(self, name))
        device = device_called(self.device)
        name = task_name(self.images, self.resize, self.group, strict=self.strict)
        embedded = name.partition("@")[0] in embedded_names()
        if embedded and self.image_size is not None:
            raise UserError(f"the embedded task '{name}' has one size; leave image_size out")
        size = None if embedded else self.image_size or backbones.config_of(self.backbone).image_size
        card = card_of_task(name, size)
        if self.progress and card is not None:
            print(card, file=sys.stderr, flush=True)
        task = fresh_task(name, size)
        temporary = None if self.results is not None else tempfile.TemporaryDirectory(prefix="petl_compare_")
        records = Records(temporary.name if temporary else Path(str(self.results)))
        records.check_writable()
        search = Search(
            task=task,
            name=name,
            size=size,
            methods=chosen,
            backbone=self.backbone,
            weights=backbones.digest(self.backbone),
            records=records,
            device=device,
            workers=max(1, default_workers() if self.workers is None else self.workers) if device == "cpu" else 1,
            budget=given,
            wish=Wish(self.trials, self.epochs, self.seeds),
            progress=self.progress,
            started=started,
            temporary=temporary,
        )
        return replace(search.run(), command=self.command, card="" if card is None else card.text())

    @property
    def command(self) -> str:
        """The command that asks the same."""
        words = ["python", "-m", "petl_core", "compare", str(self.images), "--methods", *self.methods]
        for name in ("backbone", "budget", "trials", "epochs", "seeds", "image_size", "resize", "group", "device"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join([*words, *(["--strict"] if self.strict else [])])


def _methods(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise UserError(f"methods is {names!r}; give a list of names, such as ['linear', 'lora']")
    chosen = tuple(names)
    for name in chosen:
        try:
            registry.get(name)
        except ValueError as error:
            more = "; compare takes single methods, not combinations" if "+" in str(name) else ""
            raise UserError(f"{error}{more}") from error
    if len(chosen) < 2 or len(set(chosen)) != len(chosen):
        raise UserError(f"methods are {', '.join(chosen) or 'none'}; give two or more, each once")
    return chosen


def _whole(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise UserError(f"{name} is {value!r}; it must be a whole number, 1 or more")
