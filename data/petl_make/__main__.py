"""Make the data that the guide ships, and prepare what it does not ship.

Each command is a function in the module that does the work; its imports come when it is called, because preparing
VTAB-1K runs in an environment without torch.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from petl_core.utils import exit_code
from petl_make import command_line

COMMANDS = {  # name: its module, whose ``main`` takes the arguments and returns the exit code, and what it is for
    "suite": ("petl_make.suite_files", "draw the embedded tasks anew, bit for bit, or further training images"),
    "world": ("petl_make.world_files", "draw the rendered world, or compare its digests"),
    "mini": ("petl_make.mini", "pre-train the small backbone"),
    "mini-clip": ("petl_make.mini_clip", "pre-train the small CLIP"),
    "vtab": ("petl_make.vtab.prepare", "make lossless packs of VTAB-1K's nineteen tasks"),
    "check-vtab": ("petl_make.vtab.check", "is this folder VTAB-1K? counts, classes, duplicates, JPEG"),
    "photographs": ("petl_make.photographs.make", "fetch and make ten sets of photographs and PACS"),
    "zero-shot": ("petl_make.zero_shot", "write CLIP's zero-shot head (needs the extra clip)"),
    "backbones": ("petl_make.backbones", "try all of timm's ViTs, write which are taken and why others are not"),
    "costs": ("petl_make.costs", "measure time and memory of each method"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, do, and return the exit code: 2 for bad input."""
    parser = command_line(
        "", __doc__, "check-vtab vtab1k", "suite --out data/embedded --check", "suite --more orientation@10000",
        "COMMAND --help",
    )  # fmt: skip
    rows = (f"  {name:<12}{about}" for name, (_, about) in COMMANDS.items())
    parser.epilog = "\n".join(["commands:", *rows])
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of that command; try --help")
    chosen = parser.parse_args(arguments)

    def act() -> int:
        return importlib.import_module(COMMANDS[chosen.command][0]).main(chosen.options) or 0

    return exit_code("petl_make", act)


if __name__ == "__main__":
    sys.exit(main())
