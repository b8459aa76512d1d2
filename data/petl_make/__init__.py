"""What makes the data: drawn tasks, small backbones, packs of VTAB-1K, zero-shot heads, measured costs."""

from __future__ import annotations

import argparse


def command_line(command: str, about: str | None, *examples: str) -> argparse.ArgumentParser:
    """The parser of a command; its help starts with the examples and the first paragraph of ``about``."""
    prog = f"python -m petl_make {command}".rstrip()
    usage = "".join(f"\n  {prog} {example}" for example in examples)
    first = (about or "").split("\n\n")[0]
    return argparse.ArgumentParser(
        prog=prog, usage=usage, description=first, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def say(line: str) -> None:
    """Print a line at once, also where the output is a file."""
    print(line, flush=True)
