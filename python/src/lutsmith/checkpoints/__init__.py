"""Quantized checkpoints of other libraries as packed weights: codes, tables and scales are carried over as they are.

    from lutsmith import checkpoints

    weights = checkpoints.load("model-GPTQ-Int4")     # {name: PackedWeight, or a tensor of what is not quantized}
    print(weights.report)                             # what was exact, and what the rest cost

A format is a file of this package; docs/checkpoints.md says of each what is carried over exactly and what is refused.
"""

from __future__ import annotations

from lutsmith.checkpoints.layers import Loss
from lutsmith.checkpoints.loading import Checkpoint, Report, load, stream

__all__ = ["Checkpoint", "Loss", "Report", "load", "stream"]
