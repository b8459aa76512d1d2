"""Linear probing: only the head is trained.

Paper: none; the baseline of every transfer study (Kolesnikov et al., "Big Transfer", ECCV 2020, arXiv 1912.11370, and
before).
Formula: logits = W h + b with h the frozen features.
Sites: none.
Parameters: 0 (the head is never counted).
Merges: trivially, there is nothing to merge.
Released code: the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from petl_core.methods.base import Method, register
from petl_core.vit import ViTConfig


@register(name="linear", title="Linear", family="baseline", paper="Kolesnikov et al., 2020, arXiv 1912.11370")
@dataclass(frozen=True)
class Linear(Method):
    """No hyper-parameters."""

    def count(self, config: ViTConfig) -> int:
        return 0
