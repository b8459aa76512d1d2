"""Linear probing: only the head is trained.

Paper: no paper introduced it; Razavian et al., "CNN Features off-the-shelf: an Astounding Baseline for Recognition",
CVPR Workshops 2014, arXiv 1403.6382, showed how far a linear classifier on frozen features goes.
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


@register(name="linear", title="Linear", family="baseline", paper="Razavian et al., 2014, arXiv 1403.6382")
@dataclass(frozen=True)
class Linear(Method):
    """No hyper-parameters."""

    def count(self, config: ViTConfig) -> int:
        return 0
