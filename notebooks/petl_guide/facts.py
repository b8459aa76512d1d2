"""What the pages of the book are computed from, each thing once: runs, verdicts and recommendations of one profile."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pandas as pd

from petl_guide import guide, picks
from petl_guide.claims import table as claims
from petl_guide.results import Results
from petl_guide.verdict import Verdict


@dataclass(frozen=True)
class Facts:
    """Records of a profile, and what follows from them; every property is computed when it is first asked for."""

    results: Results

    @functools.cached_property
    def tuned(self) -> pd.DataFrame:
        """The tuned final runs."""
        return picks.tuned_runs(self.results)

    @functools.cached_property
    def verdicts(self) -> dict[str, dict[str, Verdict]]:
        """By source (``claims.SOURCES``) and claim, the verdict."""
        table = claims.ledger(self.results)
        return {source: dict(zip(table["claim"], table[source], strict=True)) for source in claims.SOURCES}

    @property
    def ours(self) -> dict[str, Verdict]:
        """By claim, the verdict on these records."""
        return self.verdicts[claims.LAPTOP if self.results.embedded else claims.PHOTOGRAPHS]

    @functools.cached_property
    def findings(self) -> dict[str, guide.Finding]:
        """By situation of the guide, what these records recommend."""
        return guide.findings(self.results)
