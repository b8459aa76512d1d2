"""Exercises of the chapters: a check that says right, wrong with a hint, or not answered yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython.display import Markdown


def check(answer: Any, right: Callable[[Any], bool], hint: str) -> Markdown:
    """Judge a reader's answer. ``None`` (or ``...``) means not answered, so that a whole notebook runs without answers.

    ``right`` may raise on an answer of the wrong kind; that counts as wrong and the reason is shown.
    """
    if answer is None or answer is ...:
        return Markdown("⏳ *Not answered yet: put your answer in the cell above and run both again.*")
    try:
        if right(answer):
            return Markdown("✅ **Right.**")
        reason = ""
    except Exception as error:  # an answer may be anything; whatever it does wrong is shown to its author
        reason = f" Your answer raised {type(error).__name__}: {error}."
    return Markdown(f"❌ **Not yet.**{reason} Hint: {hint}")


def is_right(answer: Any, right: Callable[[Any], bool]) -> bool:
    """The same judgement as a plain truth value, for the solutions, which are asserted."""
    return check(answer, right, "").data.startswith("✅")
