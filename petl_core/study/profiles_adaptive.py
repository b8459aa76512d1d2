"""The profiles laptop16 and photographs: trials as long as final runs, gradients clipped, an adaptive search.

Every method has six trials for each task (``study.search``); final runs have three seeds. Parts stand in the order
in which they are run, and the tasks of a part likewise: a study that stops has whole tasks, those that matter most.
"""

from __future__ import annotations

import dataclasses

from petl_core import methods
from petl_core.data import embedded_names
from petl_core.study.profile import QUICK_METHODS, QUICK_TASKS, STUDIED, Part, Profile, Robustness
from petl_core.study.search import Adaptive
from petl_core.training.train import Recipe

EPOCHS = 16  # of trials and final runs alike, with a thousand images
RECIPE = Recipe(epochs=EPOCHS, batch_size=32, clip_norm=1.0)
TRIALS = 6
LINEAR = (3e-3, 1e-2, 3e-2, 1e-1)
MINI = Adaptive(full=(3e-4, 1e-3, 3e-3, 1e-2), linear=LINEAR, others=(1e-3, 3e-3, 1e-2, 3e-2))
VIT = Adaptive(full=(3e-5, 1e-4, 3e-4, 1e-3), linear=LINEAR, others=(3e-4, 1e-3, 3e-3, 1e-2))
PUBLISHED_SEEDS = (42, 210, 420)  # the released code runs the first and names the others in a comment
PLAIN = dataclasses.replace(RECIPE, clip_norm=None)  # of the published protocol, as long as ours
CLOSER = ("full", *STUDIED)
AT_SIZES = ("linear", *CLOSER, "fact_tk", "houlsby_adapter")
FEW_TASKS = ("orientation", "textures", "glyphs")
MANY_TASKS = ("orientation", "textures")
LAST = ("selective", "vqt")  # no results of these were released: on the quick tasks only, and after the others
PHOTOGRAPHS = (  # natural, specialised and structured in turn
    "caltech101",
    "eurosat",
    "coil20_azimuth",
    "cifar10",
    "rsscn7",
    "sign_digits",
    "gtsrb",
    "eth80_elevation",
    "birds",
    "pneumoniamnist",
)
BASELINES_AND_LORA = ("linear", "full", "lora")


def laptop() -> Profile:
    """The embedded suite with all methods."""
    tasks = (*QUICK_TASKS, *(task for task in embedded_names() if task not in QUICK_TASKS))
    small = tuple(f"{task}@100" for task in FEW_TASKS)
    return Profile(
        "laptop16",
        "all methods on the embedded suite, trials as long as final runs, adaptive search (6 hours on 2 cores)",
        backbone="mini",
        tasks=tasks,
        methods=tuple(name for name in methods.names() if name not in LAST),
        parts=(
            Part("tuned"),
            Part("repeats", CLOSER, QUICK_TASKS),
            Part("longer", ("linear", *CLOSER), QUICK_TASKS, of="tuned_longer"),
            Part("more_seeds", CLOSER, QUICK_TASKS),
            Part("drop_path", STUDIED),
            Part("many_images", AT_SIZES, tuple(f"{task}@10000" for task in MANY_TASKS), seeds=5, of="sized"),
            Part("few_images", AT_SIZES, small, seeds=5, of="sized"),
            Part("held_back", ("linear", *CLOSER), (*small, *FEW_TASKS)),
            Part("tuned_last", LAST, QUICK_TASKS, of="tuned"),
            Part("scratch", of="scratch_fixed"),
            Part("published", ("linear", "full", "bitfit", "ssf"), QUICK_TASKS, tune=PLAIN, final=PLAIN),
        ),
        trials=TRIALS,
        tune=RECIPE,
        final=RECIPE,
        search=MINI,
        repeats=2,
        published_seeds=PUBLISHED_SEEDS,
        shipped="laptop16",
    )


def photographs() -> Profile:
    """ViT-Ti on ten sets of photographs and PACS, below PETL_DATA."""

    def named(*names: str) -> tuple[str, ...]:
        return tuple(f"vtab:vtab_processed/{name}" for name in names)

    shift = dataclasses.replace(RECIPE, epochs=12)
    return Profile(
        "photographs",
        "ViT-Ti on ten sets of photographs at 64 px and PACS at 96 px, below PETL_DATA (12 hours on 2 cores)",
        backbone="vit_tiny_patch16_224",
        tasks=named(*PHOTOGRAPHS),
        methods=QUICK_METHODS,
        parts=(
            Part("tuned"),
            Part("longer", BASELINES_AND_LORA, named("eurosat", "coil20_azimuth"), seeds=1, of="tuned_longer"),
            Part("robustness", ("linear", "full", "bitfit", "lora"), ("shift:pacs/photo",), tune=shift, final=shift),
            Part("repeats", ("full", "lora"), named("eurosat", "sign_digits")),
            Part("resolution_128", BASELINES_AND_LORA, named("caltech101"), image_size=128, of="resolution"),
            Part("resolution_224", BASELINES_AND_LORA, named("caltech101"), image_size=224, of="resolution"),
        ),
        trials=TRIALS,
        tune=RECIPE,
        final=RECIPE,
        robust=Robustness("vit_tiny_patch16_224", "probe", (3e-3, 1e-3), (3e-4, 1e-4), 96, 500),
        image_size=64,
        search=VIT,
        repeats=1,
        shipped="photographs",
    )
