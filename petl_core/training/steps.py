"""What a training step does on a device: precision, the gradient of a batch, less memory where it must be, compiling.

One run is on one device; several devices are used by several runs at a time (``petl_core.study``).

Nothing below the first trainable parameter costs a backward pass: frozen parameters and images ask for no gradient.
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

from petl_core.utils import UserError

if TYPE_CHECKING:
    from petl_core.training.recipe import Recipe
    from petl_core.vit import ViT, ViTConfig

EVALUATION_BATCH = 250  # images; the logits of shipped records hang on it
COMPILE_FROM = 3e16  # floating-point operations of a training, see ``compiling_pays``
NO_TRIAL = ("cpu",)  # devices that need none: no error tells that memory ran out, and all operations give equal bits
Network = Callable[[Tensor], Tensor]  # a model, or the part of it that moves


class Gradients:
    """The gradient of a batch's mean loss, in as many pieces and with such operations as the device allows.

    ``micro`` is how many images go through the network at once; None as long as whole batches do. The gradients of the
    pieces, each weighted with its share of the batch, add up to that of the batch. ``exact``: with operations that give
    equal bits for equal calls. ``compiled`` is the network compiled for whole batches; others, such as the last of an
    epoch, go through it as it is. ``settle`` decides all of these before the first epoch.
    """

    def __init__(self, network: Network, parameters: list[nn.Parameter], recipe: Recipe) -> None:
        self.network, self.parameters, self.recipe = network, parameters, recipe
        self.device = parameters[0].device
        self.micro: int | None = None
        self.exact = True
        self.compiled: Network | None = None

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Fill ``.grad`` for inputs (B, 3, S, S), or what else the network reads, and labels (B,).

        Returns the loss and the number of right answers, each summed over the batch, on the device.
        """
        for parameter in self.parameters:
            if self.compiled is None or parameter.grad is None:
                parameter.grad = None
            else:  # kept, because a graph writes its results where the next replay overwrites them
                parameter.grad.zero_()
        total = torch.zeros((), device=self.device)
        right = torch.zeros((), dtype=torch.long, device=self.device)
        size = self.micro or len(inputs)
        for x, y in zip(inputs.split(size), labels.split(size), strict=True):
            with deterministic(self.device, wanted=self.exact):
                with autocast(self.device, self.recipe):
                    logits = self._logits(x)  # (b, C)
                    loss = F.cross_entropy(logits.float(), y)
                (loss * (len(x) / len(inputs))).backward()
            total += loss.detach() * len(x)
            right += (logits.detach().argmax(1) == y).sum()
        return total, right

    def _logits(self, x: Tensor) -> Tensor:
        if self.compiled is None or len(x) != self.recipe.batch_size:
            return self.network(x)
        torch.compiler.cudagraph_mark_step_begin()
        return self.compiled(x)

    def compile(self) -> None:
        """Compile the network for whole batches (torch does so when it sees the first)."""
        torch.compiler.reset()  # of earlier runs of this process: their graphs, and the count of recompilations allowed
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"  # that is: with CUDA graphs
        self.compiled = torch.compile(self.network, mode=mode, dynamic=False)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def settle(self, inputs: Tensor, labels: Tensor) -> None:
        """Try a whole batch, and give up what this device cannot do: compiling, equal bits, so many images at once.

        The batch is halved whenever memory runs out, which is tried beside the room that AdamW will take. Says what is
        given up; leaves the random state as it was. ``UserError`` if one image is too much.
        """
        room = [torch.empty_like(parameter) for parameter in self.parameters for _ in range(2)]
        while not self._tried(inputs, labels):  # what a failure leaves is free only now that its error is gone
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        del room
        if self.micro is not None:
            _say(
                f"{self.device} has not enough memory for {len(inputs)} images at once; going on with {self.micro} at "
                "a time and the gradients added up, which gives the same step"
            )

    def _tried(self, inputs: Tensor, labels: Tensor) -> bool:
        """Did a batch go through? Where it did not, one thing is given up."""
        try:
            with seeded(0, self.device):
                for _ in range(1 if self.compiled is None else 3):  # to be compiled, recorded as a graph, and replayed
                    self(inputs, labels)
            return True
        except torch.OutOfMemoryError as error:
            size = self.micro or len(inputs)
            if size == 1:
                raise out_of_memory(self.device, error) from None
            self.micro, self.compiled = (size + 1) // 2, None  # a graph holds memory of its own
        except Exception as error:  # whatever the compiler, or a C compiler that is missing, has to say
            if self.exact and "deterministic" in str(error):
                _say(f"runs on {self.device} will differ in their last bits: {error}")
                self.exact = False
            elif self.compiled is not None and self.recipe.compile == "auto":
                _say(f"torch.compile failed, going on without it: {str(error).strip()[:300]}")
                self.compiled = None
            else:
                raise
        return False


def _say(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def out_of_memory(device: torch.device, error: torch.OutOfMemoryError) -> UserError:
    """What to tell a user whose device has too little memory, for one image or beside other programs."""
    reason = str(error).partition("\n")[0]
    return UserError(
        f"the memory of {device} is too small ({reason}); use Recipe(checkpointing=True), a smaller backbone or "
        "smaller images, or end what else runs on the device"
    )


def autocast(device: torch.device, recipe: Recipe) -> Any:
    """The context that computes in bfloat16 where the recipe, or "auto" on CUDA, says so."""
    wanted = recipe.precision == "bf16" or (recipe.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


@contextmanager
def deterministic(device: torch.device, *, wanted: bool = True) -> Iterator[None]:
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
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:  # the switches are the whole process's, and the caller's
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = fill


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for what runs inside (dropout, drop path); the caller's random state is left alone."""
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
def at_work(model: ViT, recipe: Recipe, seed: int) -> Iterator[None]:
    """Inside, the model trains: with the seed's random numbers, drop path and checkpointing. Afterwards it evaluates.

    ``UserError`` if the device's memory runs out, which after ``Gradients.settle`` means that others took it.
    """
    device = next(model.parameters()).device
    checkpointed = model.blocks if recipe.checkpointing else []
    for block in checkpointed:  # keeps no activations: the backward pass computes them anew, for equal gradients
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    model.set_drop_path(recipe.drop_path)
    try:
        with seeded(seed, device):
            yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(device, error) from None
    finally:
        for block in checkpointed:
            del block.forward  # what the class defines is there again
        model.set_drop_path(0.0)
        model.eval()


def forward_flops(config: ViTConfig) -> float:
    """Floating-point operations of one image's forward pass, multiplications and additions apart: 35.1e9 for ViT-B/16.

    For each of N tokens and L blocks 2 (4 D^2 + 2 D hidden) + 4 N D (3 D hidden if gated), and the patch embedding.
    """
    D, N = config.width, config.tokens
    block = 2 * N * (4 * D * D + (3 if config.gated else 2) * D * config.hidden) + 4 * N * N * D
    return config.depth * block + 2 * config.grid**2 * 3 * config.patch_size**2 * D


def compiling_pays(config: ViTConfig, images: int, recipe: Recipe, device: torch.device) -> bool:
    """Should a training on ``images`` images be compiled?

    With ``compile="auto"``: on CUDA, if forward and backward passes come to ``COMPILE_FROM`` operations: 430,000 images
    of ViT-B/16, so a many-shot run and not one of VTAB-1K (100,000). That is two minutes at 250 TFLOP/s, of which
    compiling (44 s for 12 blocks on a CPU; ``make bench-gpu`` measures it) is to save a third. The rule looks at the
    work and not at a clock, so that equal specs are computed alike.
    """
    if recipe.compile != "auto":
        return recipe.compile == "on"
    work = 2.0 * forward_flops(config) * images * recipe.epochs
    return device.type == "cuda" and not recipe.checkpointing and work >= COMPILE_FROM


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
