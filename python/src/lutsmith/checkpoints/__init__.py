"""Quantized checkpoints of other libraries as packed weights: codes, tables and scales are carried over as they are.

    from lutsmith import checkpoints

    weights = checkpoints.load("model-GPTQ-Int4")     # {name: PackedWeight, or a tensor of what is not quantized}
    print(weights.report)                             # what was exact, and what the rest cost
    checkpoints.convert("model-GPTQ-Int4", "packed")  # a folder for AutoModelForCausalLM.from_pretrained

A format is a file of this package; docs/checkpoints.md says of each what is carried over exactly and what is refused.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lutsmith.checkpoints.layers import Loss
from lutsmith.checkpoints.loading import Checkpoint, Report, load, stream

if TYPE_CHECKING:
    from lutsmith.checkpoints.conversion import convert

__all__ = ["Checkpoint", "Loss", "Report", "convert", "load", "stream"]


def __getattr__(name: str) -> Any:
    if name != "convert":  # which needs transformers
        raise AttributeError(f"module 'lutsmith.checkpoints' has no attribute {name!r}")
    return importlib.import_module("lutsmith.checkpoints.conversion").convert
