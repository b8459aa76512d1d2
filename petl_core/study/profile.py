"""What a profile is: tasks, methods, seeds, trials, the recipes of trials and of final runs, and the parts of the study
(the keys of ``study.parts.PARTS``) with the methods and tasks that each part covers. The profiles themselves are in
``study.profiles``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from petl_core import methods
from petl_core.data.embedded import SHIPPED, parts_of_name
from petl_core.study.search import Adaptive
from petl_core.training.train import Recipe
from petl_core.utils import UserError

TUNE = Recipe(epochs=2, batch_size=32)  # of trials, on train800
FINAL = Recipe(epochs=6, batch_size=32)  # of final runs, on train1000
TRIALS = 4  # for each task and method, whatever the method
SEEDS = (0, 1, 2)
DROP_PATHS = (0.0, 0.1)  # the first is the default
DEFAULT_LR = 1e-3  # of the variant "default", the same for all methods
LONGER = 4  # times the final epochs, in the part "longer"
MORE_SEEDS = (0, 1, 2, 3, 4)  # in the part "more_seeds"
SIZES = (1, 8, 32, 128)  # ranks and bottlenecks of the sweep in the part "many_shot"
HELD_BACK = {"l2_sp": (3.0, 30.0), "layer_decay": (0.8, 0.5)}  # strengths tried in the part "mechanism"
ROBUST_BACKBONE = "mini_clip"
HIGH_LRS = (1e-3, 1e-2)  # the published rates for full fine-tuning
QUICK_METHODS = ("linear", "full", "bitfit", "ssf", "lora", "adaptformer", "repadapter", "vpt_deep")
QUICK_TASKS = ("photo_scenes", "land_cover", "count")  # one of each group
STUDIED = ("bitfit", "lora", "ssf")  # the PEFT methods whose tuning the smaller parts look into
SCRATCH_LRS = (1e-3, 3e-3)  # random weights want larger steps than pre-trained ones
REPEAT_SEED = 100  # of the trials of repeat r of the protocol: this and r
PUBLISHED_DECAYS, PUBLISHED_SEED, PUBLISHED_DROP_PATH = (1e-4, 1e-3), 42, 0.1
FEWEST_EPOCHS, MOST_EPOCHS = 4, 80  # with few and with many images (``Profile.at_length``)
BITFIT_BASE = {"lr": 1e-4, "drop_path": 0.0, "normalise": "none"}  # untuned: full fine-tuning's rate, [0, 1] images


def epochs_for(images: int, epochs: int) -> int:
    """Epochs with so many training images that show about as many in all as ``epochs`` do with a thousand."""
    return min(max(round(epochs * SHIPPED / images), FEWEST_EPOCHS), MOST_EPOCHS)


@dataclass(frozen=True)
class Part:
    """A part of the study (a key of ``PARTS``) for some of a profile's methods and tasks and its first so many seeds;
    None means all of them. ``backbone``, ``tune``, ``final`` and ``image_size`` replace the profile's in this part.
    ``of``: the key of ``PARTS`` where the part has another name, because the profile has two parts of that key.
    ``seeds`` beyond the profile's are the numbers that follow its last."""

    name: str
    methods: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    seeds: int | None = None
    backbone: str | None = None
    tune: Recipe | None = None
    final: Recipe | None = None
    image_size: int | None = None
    of: str | None = None

    @property
    def key(self) -> str:
        """The key of ``PARTS``."""
        return self.of or self.name


class Rates:
    """Learning rates of full fine-tuning and of the other methods."""

    lrs: tuple[float, ...]
    full_lrs: tuple[float, ...]

    def rates(self, method: str) -> tuple[float, ...]:
        """The learning rates of a method."""
        return self.full_lrs if method == "full" else self.lrs


@dataclass(frozen=True)
class Robustness(Rates):
    """The settings of the part "robustness": what every method starts from, and the learning rates, of which each has
    final runs. ``max_evaluate``: of each test set."""

    backbone: str = ROBUST_BACKBONE
    head: str = "zero_shot"
    lrs: tuple[float, ...] = (1e-2, 3e-3, 1e-3)
    full_lrs: tuple[float, ...] = (1e-3, 3e-4, 1e-4)  # of full fine-tuning
    image_size: int | None = None
    max_evaluate: int | None = None


@dataclass(frozen=True)
class Amount(Rates):
    """How the part "many_shot" trains with up to ``most`` images: the epochs, and the learning rates, a trial each."""

    most: int
    epochs: int
    lrs: tuple[float, ...] = (1e-2, 3e-3, 3e-2, 1e-3)
    full_lrs: tuple[float, ...] = (1e-3, 3e-4, 1e-4, 1e-5)  # of full fine-tuning


# A trial with 10,000 images is long, so there are three, without the rates that no method chose when there were four.
AMOUNTS = (Amount(200, 20), Amount(2000, 6), Amount(20_000, 2, (1e-2, 3e-3, 3e-2), (1e-3, 3e-4, 1e-5)))


@dataclass(frozen=True)
class Profile:
    """What a study of one size consists of. Each embedded profile's specs from quick on are also in the next one's, and
    gpu's are in full's.

    ``lrs``: learning rates to tune over for some methods and for "others", instead of each method's own, which suit a
    small ViT; ``published_sizes``: tune over the study's sizes and scales for ViT-B/16, for the same reason.
    """

    name: str
    about: str
    backbone: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    parts: tuple[Part, ...]
    seeds: tuple[int, ...] = SEEDS
    trials: int = TRIALS
    tune: Recipe = TUNE
    final: Recipe = FINAL
    drop_paths: tuple[float, ...] = DROP_PATHS
    sizes: tuple[int, ...] = SIZES
    robust: Robustness = Robustness()
    image_size: int | None = None  # pixels; None: the backbone's own
    shipped: str = ""  # the folder of its shipped records below data/results
    max_train: int | None = None
    max_evaluate: int | None = None
    pretrained: bool = True
    device: str = "cpu"
    lrs: Mapping[str, tuple[float, ...]] | None = None
    published_sizes: bool = False
    published_seeds: tuple[int, ...] = (PUBLISHED_SEED,)
    amounts: tuple[Amount, ...] = AMOUNTS
    augments: tuple[tuple[str, str], ...] = ()  # many-shot tasks, without their number, and Recipe.augment
    search: Adaptive | None = None  # None: the fixed grid of ``lrs`` and ``trials``
    repeats: int = 0  # of the whole protocol, in the part "repeats"
    repeat: int = 0  # which of them this is; 0: none, the protocol itself
    absent: str = "refuse"  # or "count", while planning: data and weights that are not here (``study.digests``)

    def lrs_of(self, method: str) -> tuple[float, ...]:
        """The learning rates to tune a method over, in the order of trial."""
        own = type(methods.get(method)).lrs
        return own if self.lrs is None else self.lrs.get(method, self.lrs["others"])

    def first_seeds(self, count: int | None) -> tuple[int, ...]:
        """The first so many seeds, None: all; where there are fewer, the numbers after the last one too."""
        more = max(0, (count or 0) - len(self.seeds))
        return (*self.seeds[:count], *range(self.seeds[-1] + 1, self.seeds[-1] + 1 + more))

    def amount(self, task: str) -> Amount:
        """How the part "many_shot" trains with as many images as the task has."""
        return next(amount for amount in self.amounts if parts_of_name(task)[1] <= amount.most)

    def at_amount(self, task: str) -> Profile:
        """The profile with the recipes of the part "many_shot" for that many images. A profile that takes few images of
        everything (smoke) keeps its own recipes. With more than a thousand images a trial is as long as a final run: a
        rate that is good for a few hundred steps can be too high for a few thousand. Trials augment as final runs do.
        """
        if self.max_train is not None:
            return self
        name, images = parts_of_name(task)
        epochs, augment = self.amount(task).epochs, dict(self.augments).get(name, self.final.augment)
        of_trials = self.tune.epochs if images == SHIPPED else epochs
        tune = dataclasses.replace(self.tune, epochs=of_trials, augment=augment)
        final = dataclasses.replace(self.final, epochs=epochs, augment=augment)
        return dataclasses.replace(self, tune=tune, final=final)

    def at_length(self, task: str) -> Profile:
        """The profile with epochs by the task's number of training images, so that all see about as many images."""
        count = parts_of_name(task)[1] if "@" in task else SHIPPED
        if self.max_train is not None or count == SHIPPED:
            return self

        def at(recipe: Recipe) -> Recipe:
            return dataclasses.replace(recipe, epochs=epochs_for(count, recipe.epochs))

        return dataclasses.replace(self, tune=at(self.tune), final=at(self.final))

    def of_tasks(self, names: Iterable[str]) -> Profile:
        """The profile with these tasks alone, and with the parts that have one of them. ``UserError`` for a task that
        it does not have."""
        wanted = set(names)
        if unknown := wanted - self.all_tasks():
            known = ", ".join(sorted(self.all_tasks()))
            raise UserError(f"profile '{self.name}' has no task '{min(unknown)}'; its tasks: {known}")
        parts = [
            dataclasses.replace(part, tasks=tuple(task for task in part.tasks or self.tasks if task in wanted))
            for part in self.parts
        ]
        tasks = tuple(task for task in self.tasks if task in wanted)
        return dataclasses.replace(self, tasks=tasks, parts=tuple(part for part in parts if part.tasks))

    def all_tasks(self) -> set[str]:
        """The profile's tasks and those of its parts."""
        return {*self.tasks, *(task for part in self.parts for task in part.tasks or ())}

    def part(self, name: str) -> Part:
        """The part of that name. ``UserError`` listing the profile's parts if it has none."""
        for part in self.parts:
            if part.name == name:
                return part
        names = ", ".join(p.name for p in self.parts)
        raise UserError(f"profile '{self.name}' has no part '{name}'; it has: {names}")
