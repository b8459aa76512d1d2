"""What a training step does on a device: precision, the gradient of a batch, less memory where it must be, compiling.

Nothing below the first trainable parameter costs a backward pass: frozen parameters and images ask for no gradient, so
autograd keeps nothing of the blocks before it and stops there (``tests/test_steps.py`` looks at the graph).
"""

from __future__ import annotations

import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from petl_core.training.distributed import Team
from petl_core.utils import UserError

if TYPE_CHECKING:
    from petl_core.training.recipe import Recipe
    from petl_core.vit import ViT, ViTConfig

EVALUATION_BATCH = 250  # on a CPU
COMPILE_FROM = 3e16  # floating-point operations of a training, see ``compiling_pays``


class Gradients:
    """Computes the gradient of a batch's mean loss, in as few pieces as fit in the device's memory.

    ``micro`` is how many images go through the network at once; None as long as whole batches do. It is halved whenever
    the device runs out of memory. The gradients of the pieces, each weighted with its share of the batch, add up to
    that of the batch. ``UserError`` if one image is too much.
    """

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, team: Team) -> None:
        self.network, self.optimiser, self.recipe, self.team = network, optimiser, recipe, team
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.micro: int | None = None
        self.exact = True  # until an operation of the model turns out to have no deterministic form
        self.compiled: nn.Module | Callable[[Tensor], Tensor] | None = None
        self.compiled_size = 0

    def compile(self) -> None:
        """Compile the network for whole batches; other sizes (the last batch of an epoch) go through it as it is."""
        torch.compiler.reset()  # of earlier runs of this process: their graphs, and the count of recompilations allowed
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"  # that is: with CUDA graphs
        self.compiled = torch.compile(self.network, mode=mode, dynamic=False)
        self.compiled_size = len(range(self.recipe.batch_size)[self.team.part(self.recipe.batch_size)])
        for parameter in self.parameters:  # kept: a graph writes its results where the next replay overwrites them
            parameter.grad = torch.zeros_like(parameter)

    def __call__(self, inputs: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Fill ``.grad`` for inputs (b, 3, S, S) and labels (b,), this process's share of a batch of ``count``.

        Returns the loss and the number of right answers, each summed over the whole batch, on the device.
        """
        before = self.micro
        while True:
            try:
                sums = self._accumulate(inputs, labels, count)
                break
            except torch.OutOfMemoryError as error:
                if min(self.micro or len(inputs), len(inputs)) <= 1:
                    raise out_of_memory(self.device, error) from None
            except RuntimeError as error:
                if not self.exact or "deterministic" not in str(error):
                    raise
                warnings.warn(f"runs on {self.device} will differ in their last bits: {error}", stacklevel=2)
                self.exact = False
                continue
            self._shrink(len(inputs))  # outside: the error holds on to the step's tensors
        if self.micro != before:
            warnings.warn(
                f"{self.device} has not enough memory for {before or len(inputs)} images at once; going on with "
                f"{self.micro} at a time and the gradients added up, which gives the same step",
                stacklevel=2,
            )
        if self.team.size > 1:
            sums = self._add_up(sums)
        return sums[0], sums[1]

    def _accumulate(self, inputs: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        self.optimiser.zero_grad(set_to_none=self.compiled is None)
        total = torch.zeros((), device=self.device)
        right = torch.zeros((), dtype=torch.long, device=self.device)
        size = self.micro or max(1, len(inputs))
        for x, y in zip(inputs.split(size), labels.split(size), strict=True):
            if not len(x):  # a share of a batch may be empty
                continue
            with deterministic(self.device, self.exact):
                with autocast(self.device, self.recipe):
                    logits = self._network(x)  # (b, C)
                    loss = F.cross_entropy(logits.float(), y)
                (loss if len(x) == count else loss * (len(x) / count)).backward()
            total += loss.detach() * len(x)
            right += (logits.detach().argmax(1) == y).sum()
        return total, right

    def _network(self, x: Tensor) -> Tensor:
        if self.compiled is None or len(x) != self.compiled_size:
            return self.network(x)
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return self.compiled(x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the compiler, or a C compiler that is missing, has to say
            if self.recipe.compile == "on":
                raise
            warnings.warn(f"torch.compile failed, going on without it: {str(error).strip()[:300]}", stacklevel=2)
            self.compiled = None
            return self.network(x)

    def _shrink(self, size: int) -> None:
        size = min(self.micro or size, size)
        self.micro = (size + 1) // 2
        self.compiled = None  # its graphs hold memory of their own
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _add_up(self, sums: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Add up the processes' gradients and sums, in one go."""
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        flat = torch.cat([*(part.flatten() for part in parts), *(value.float().view(1) for value in sums)])
        self.team.add_up(flat)
        for parameter, part in zip(self.parameters, flat[:-2].split([p.numel() for p in parts]), strict=True):
            parameter.grad = part.view_as(parameter)
        return flat[-2], flat[-1].long()


def out_of_memory(device: torch.device, error: torch.OutOfMemoryError) -> UserError:
    """What to tell a user for whom one image is too much."""
    reason = str(error).partition("\n")[0]
    return UserError(
        f"the memory of {device} is too small for one image at a time ({reason}); use Recipe(checkpointing=True), a "
        "smaller backbone or smaller images, or end what else runs on the device"
    )


def autocast(device: torch.device, recipe: Recipe) -> Any:
    """The context that computes in bfloat16 where the recipe, or "auto" on CUDA, says so."""
    wanted = recipe.precision == "bf16" or (recipe.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


@contextmanager
def deterministic(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """On CUDA, have kernels that give equal bits for equal calls, or a ``RuntimeError`` where there is none.

    Attention's backward pass is not among them by default, nor where torch is asked only to warn (``warn_only``).
    """
    if device.type != "cuda" or not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for this variable
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    settings: Any = torch.utils.deterministic  # filling all new memory is for finding faults in kernels, and slow
    fill, settings.fill_uninitialized_memory = settings.fill_uninitialized_memory, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = fill


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for what runs inside (dropout, drop path) and give the caller's random state back afterwards."""
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach devices that are not ours
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            if mps is not None:
                torch.mps.set_rng_state(mps)


@contextmanager
def checkpointed(model: ViT, wanted: bool) -> Iterator[None]:
    """Inside, no block keeps its activations for the backward pass, which computes them anew; equal gradients."""
    blocks = model.blocks if wanted else []
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # what the class defines is there again


def forward_flops(config: ViTConfig) -> float:
    """Floating-point operations of one image's forward pass, multiplications and additions apart: 35.1e9 for ViT-B/16.

    For each of N tokens and L blocks 2 (4 D^2 + 2 D hidden) + 4 N D, and the patch embedding.
    """
    D, N = config.width, 1 + config.grid**2
    block = 2 * N * (4 * D * D + 2 * D * config.hidden) + 4 * N * N * D
    return config.depth * block + 2 * (N - 1) * 3 * config.patch_size**2 * D


def compiling_pays(config: ViTConfig, images: int, recipe: Recipe, device: torch.device) -> bool:
    """Should a training on ``images`` images be compiled?

    With ``compile="auto"``: on CUDA, if forward and backward passes come to ``COMPILE_FROM`` operations, which is
    430,000 images of ViT-B/16: a many-shot run, and not one of VTAB-1K (100,000). At 250 TFLOP/s that is two minutes,
    of which compiling is to save a third; for a ViT of 12 blocks it took 44 s of a CPU (its C++ backend, one thread, no
    cache; ``make bench-gpu`` measures both on a GPU). The rule looks at the work and not at a clock, so that equal
    specs are computed alike.
    """
    if recipe.compile != "auto":
        return recipe.compile == "on"
    work = 2.0 * forward_flops(config) * images * recipe.epochs
    return device.type == "cuda" and not recipe.checkpointing and work >= COMPILE_FROM


def evaluation_batch(config: ViTConfig, device: torch.device) -> int:
    """Images of an evaluation batch. On CUDA the power of two, 32 to 1024, whose forward pass needs at most an eighth
    of the device's memory (an image: 16 float32 copies of its tokens); of all memory, so that it is always the same."""
    if device.type != "cuda":
        return EVALUATION_BATCH
    image = 16 * 4 * (1 + config.grid**2) * config.width
    most = torch.cuda.get_device_properties(device).total_memory / 8 / image
    return 2 ** min(10, max(5, int(math.log2(most))))


def peak_memory_mb(device: torch.device) -> float:
    """Of the GPU since the statistics were reset; on a CPU the largest so far of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, KiB on Linux
