"""Tables of the chapters: a DataFrame with plain formats, the same bytes each time, readable without colour."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from petl_guide.figures.style import title


class Table(Styler):
    """A styled table whose plain form is the table too, and not an address in memory."""

    def __repr__(self) -> str:
        return self.data.to_string(index=False)


def table(
    frame: pd.DataFrame, formats: Mapping[str, str | Callable[[Any], str]] | str | None = None, caption: str = ""
) -> Table:
    """The frame as a table without index. ``formats`` by column ("{:.1f}"), or one for all floats; NaN shows as –.

    Other numbers show as whole numbers or with four digits; a column ``method`` with the methods' titles.
    """
    shown = frame.copy()
    if "method" in shown:
        shown["method"] = shown["method"].map(title)
    numbers = list(shown.select_dtypes("number"))
    whole = set(shown.select_dtypes("integer"))
    forms: dict[str, Any] = {
        column: formats if isinstance(formats, str) and column not in whole else _plain for column in numbers
    }
    if formats is not None and not isinstance(formats, str):
        forms |= formats
    shown = shown.rename(columns=lambda column: str(column).replace("_", " "))
    forms = {str(column).replace("_", " "): form for column, form in forms.items()}
    name = hashlib.sha256(f"{caption}{shown.to_csv()}".encode()).hexdigest()[:8]
    styler = Table(shown, uuid=name, cell_ids=False)
    styler.hide(axis="index")
    styler = styler.format(forms, na_rep="–")
    return styler.set_caption(caption) if caption else styler


def _plain(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4g}"


def points(value: float, low: float | None = None, high: float | None = None) -> str:
    """A difference in points with its interval, for text: "+1.2 points [+0.3, +2.1]"."""
    value, *ends = (round(v, 1) + 0.0 for v in (value, low, high) if v is not None)  # no "-0.0"
    return f"{value:+.1f} points" + (f" [{ends[0]:+.1f}, {ends[1]:+.1f}]" if len(ends) == 2 else "")


def direction(
    low: float, high: float, up: str = "higher", down: str = "lower", open_: str = "no clear difference"
) -> str:
    """A word for a difference whose interval lies above zero, below zero, or across it."""
    return up if low > 0 else down if high < 0 else open_


def names(methods: list[str]) -> str:
    """Titles of methods in a sentence: "LoRA, SSF and BitFit"; "none" for an empty list."""
    shown = [title(method) for method in methods]
    if len(shown) < 2:
        return shown[0] if shown else "none"
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
