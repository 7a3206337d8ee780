"""Modules of torch whose weights are packed."""

from __future__ import annotations

from lutsmith.nn.fused import Fused, FusedLinear, fuse
from lutsmith.nn.gated import GatedLinear
from lutsmith.nn.linear import Linear, set_batch_invariant

__all__ = ["Fused", "FusedLinear", "GatedLinear", "Linear", "fuse", "set_batch_invariant"]
