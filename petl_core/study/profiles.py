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
from petl_core.study.profile import QUICK_METHODS, QUICK_TASKS, STUDIED, TUNE, Part, Profile, Robustness
from petl_core.training.train import Recipe
from petl_core.utils import UserError

SMOKE = Recipe(epochs=1, batch_size=32)
FEW = ("linear", "full", "lora")
TUNED = ("full", *STUDIED)
ONE_RATE = Robustness(lrs=(1e-2,), full_lrs=(1e-3,))
WORLD = ("world",)


def smoke() -> Profile:
    """A few steps, for tests."""
    names, some = ("tuned", "default", "drop_path", "trials", "best_on_test", "longer"), ("linear", "bitfit", "lora")
    return Profile(
        "smoke",
        "a few steps of three methods on two tasks; its numbers mean nothing (seconds)",
        backbone="mini",
        tasks=QUICK_TASKS[:2],
        methods=some,
        parts=(
            *(Part(part, some) for part in names),
            Part("bitfit"),
            Part("full_low_lr"),
            Part("scratch", tasks=QUICK_TASKS[:1]),
            Part("many_shot", FEW, ("orientation@100", "orientation")),
            Part("mechanism", FEW, ("orientation@100",)),
            Part("robustness", FEW, WORLD),
        ),
        seeds=(0, 1),
        trials=2,
        sizes=(8,),
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
            Part("many_shot", FEW, ("orientation@100", "orientation")),
            Part("mechanism", FEW, ("orientation@100",)),
            Part("robustness", FEW, WORLD),
        ),
        sizes=(8,),
        robust=ONE_RATE,
    )


def laptop() -> Profile:
    """The embedded study whose records are shipped."""
    few = ("orientation@100", "orientation", "textures@100", "textures")  # features must move; they are good already
    many = ("orientation@10000", "textures@10000")
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
            Part("many_shot", ("linear", *TUNED, "houlsby_adapter", "fact_tk"), (*few, *many)),
            Part("mechanism", ("linear", *TUNED), few),
            Part("robustness", QUICK_METHODS, WORLD),
        ),
    )


def real() -> Profile:
    """The study on six sets of photographs whose records are shipped."""
    names = ("caltech101", "cifar10", "eurosat", "pneumoniamnist", "coil20_azimuth", "sign_digits")  # two of each group
    tasks = tuple(f"vtab:vtab_processed/{name}" for name in names)
    return Profile(
        "real",
        "ViT-Ti on six sets of photographs at 64 px and PACS at 128 px, below PETL_DATA (two hours on 2 cores)",
        backbone="vit_tiny_patch16_224",
        tasks=tasks,
        methods=QUICK_METHODS,
        parts=(
            Part("tuned"),
            Part("normalise", ("linear", "lora"), tasks[::2]),
            Part("robustness", ("linear", "full", "bitfit", "lora"), ("shift:pacs/photo",)),
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
