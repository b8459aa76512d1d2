"""The profiles, from smoke to laptop on embedded data, on photographs, and at the study's own scale.

What quick runs, laptop runs too, with equal digests, so that fresh records of quick are compared with the shipped ones
one by one; likewise gpu and full. A new profile is one more function and one more row of ``PROFILES``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from petl_core import methods
from petl_core.data.embedded import embedded_names
from petl_core.study import profiles_adaptive, profiles_large
from petl_core.study.profile import (
    MANY_SHOT_TASKS,
    ONE_RATE,
    QUICK_METHODS,
    QUICK_TASKS,
    REAL_SHIFT,
    REAL_TASKS,
    ROBUST_METHODS,
    ROBUST_TASKS,
    SIZES,
    SMOKE,
    SMOKE_METHODS,
    STUDIED,
    SWEPT,
    TUNE,
    Part,
    Profile,
    Robustness,
)
from petl_core.utils import UserError

TUNED = ("full", *STUDIED)


def smoke() -> Profile:
    """A few steps, for tests."""
    names = ("tuned", "default", "drop_path", "trials", "best_on_test", "longer")
    parts = tuple(Part(part, SMOKE_METHODS) for part in names)
    small = ("orientation@100", "orientation")
    return Profile(
        "smoke",
        "a few steps of three methods on two tasks; its numbers mean nothing (seconds)",
        backbone="mini",
        tasks=QUICK_TASKS[:2],
        methods=SMOKE_METHODS,
        parts=(
            *(*parts, Part("bitfit"), Part("full_low_lr"), Part("scratch", tasks=QUICK_TASKS[:1])),
            Part("many_shot", ("linear", "full", "lora"), small),
            Part("mechanism", ("linear", "full", "lora"), small[:1]),
            Part("robustness", ("linear", "full", "lora"), ROBUST_TASKS),
        ),
        seeds=(0, 1),
        trials=2,
        sizes=SIZES[1:2],
        robust=ONE_RATE,
        tune=SMOKE,
        final=SMOKE,
        max_train=64,
        max_evaluate=100,
    )


def quick() -> Profile:
    """What ``make reproduce`` computes."""
    return Profile(
        "quick",
        "eight methods on three tasks, one of each group (about 15 minutes on 2 cores)",
        backbone="mini",
        tasks=QUICK_TASKS,
        methods=QUICK_METHODS,
        parts=(
            Part("tuned"),
            *closer(QUICK_TASKS[:1], ("full", "lora", "bitfit"), ("full", "lora")),
            Part("scratch", tasks=QUICK_TASKS[:1]),
            Part("many_shot", ("linear", "full", "lora"), ("orientation@100", "orientation")),
            Part("mechanism", ("linear", "full", "lora"), ("orientation@100",)),
            Part("robustness", ("linear", "full", "lora"), ROBUST_TASKS),
        ),
        sizes=SIZES[1:2],
        robust=ONE_RATE,
    )


def laptop() -> Profile:
    """The embedded study whose records are shipped."""
    few = tuple(f"{task}{count}" for task in MANY_SHOT_TASKS for count in ("@100", ""))
    many = tuple(f"{task}@10000" for task in MANY_SHOT_TASKS)
    return Profile(
        "laptop",
        "all methods on the whole embedded suite; its records are shipped (2 to 2.5 hours on 2 cores)",
        backbone="mini",
        tasks=tuple(embedded_names()),
        methods=tuple(methods.names()),
        parts=(
            Part("tuned"),
            *closer(QUICK_TASKS, TUNED, TUNED),
            Part("longer", ("linear", *TUNED), QUICK_TASKS),
            Part("more_seeds", ("lora", "adaptformer", "ssf"), QUICK_TASKS),
            Part("scratch"),
            Part("published", ("linear", "full", "bitfit", "ssf"), QUICK_TASKS),
            Part("many_shot", ("linear", *TUNED, *(m for m in SWEPT if m != "lora")), (*few, *many)),
            Part("mechanism", ("linear", *TUNED), few),
            Part("robustness", ROBUST_METHODS, ROBUST_TASKS),
        ),
    )


def real() -> Profile:
    """The study on six sets of photographs whose records are shipped."""
    tasks = tuple(f"vtab:vtab_processed/{task}" for task in REAL_TASKS)
    return Profile(
        "real",
        "ViT-Ti on six sets of photographs at 64 px and PACS at 128 px, below PETL_DATA (two hours on 2 cores)",
        backbone="vit_tiny_patch16_224",
        tasks=tasks,
        methods=QUICK_METHODS,
        parts=(
            Part("tuned"),
            Part("normalise", ("linear", "lora"), tasks[::2]),
            Part("robustness", ("linear", "full", "bitfit", "lora"), REAL_SHIFT),
        ),
        tune=dataclasses.replace(TUNE, epochs=3),
        robust=Robustness("vit_tiny_patch16_224", "probe", (3e-3, 1e-3), (3e-4, 1e-4), 128, 200),
        image_size=64,
        shipped="real",
    )


def closer(tasks: tuple[str, ...], some: tuple[str, ...], tracked: tuple[str, ...]) -> tuple[Part, ...]:
    """Parts of chapter 04 that look closer at some methods on some tasks; ``tracked`` ones after each epoch."""
    peft = tuple(method for method in some if method != "full")
    names = {"default": some, "drop_path": peft, "trials": some, "best_on_test": tracked}
    parts = tuple(Part(part, its, tasks) for part, its in names.items())
    return (*parts, Part("full_low_lr", tasks=tasks), Part("bitfit", tasks=tasks))


PROFILES: dict[str, Callable[[], Profile]] = {
    "smoke": smoke,
    "quick": quick,
    "laptop": laptop,
    "real": real,
    "laptop16": profiles_adaptive.laptop,
    "photographs": profiles_adaptive.photographs,
    "gpu": profiles_large.gpu,
    "full": profiles_large.full,
}


def profile_names() -> list[str]:
    """The profiles, from small to large."""
    return list(PROFILES)


def profile(name: str) -> Profile:
    """The profile called ``name``. ``UserError`` listing the names if there is none."""
    if name not in PROFILES:
        raise UserError(f"unknown profile '{name}'; the profiles are: {', '.join(PROFILES)}")
    return PROFILES[name]()
