"""How many bits a model takes, with all that its weights need."""

from __future__ import annotations

from dataclasses import dataclass

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.nn import Linear

__all__ = ["ModelSize", "model_size", "packed_bytes"]


@dataclass(frozen=True)
class ModelSize:
    """Attributes:
    linear_weights, linear_bytes: of the quantized linear layers' matrices: codes, scales, tables and padding. Where no
        layer is quantized, of those that would be: all but the output head.
    weights, bytes: of the whole model: these, the embedding, the head, norms and biases, each counted once.
    """

    linear_weights: int
    linear_bytes: int
    weights: int
    bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Of the linear layers."""
        return 8 * self.linear_bytes / self.linear_weights

    @property
    def model_bits_per_weight(self) -> float:
        return 8 * self.bytes / self.weights


def model_size(model: torch.nn.Module) -> ModelSize:
    """Counts a model of `lutsmith.nn.Linear`, or one that is not quantized, as it is in memory.

    Raises:
        Error: where it has no linear layer.
    """
    packed = [module for module in model.modules() if isinstance(module, Linear)]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    matrices = [
        module.weight for module in model.modules() if type(module) is torch.nn.Linear and module is not head
    ]
    packed_weights = sum(layer.in_features * layer.out_features for layer in packed)
    packed_memory = sum(packed_bytes(layer.format) for layer in packed)
    # Parameters are counted once where they are shared. Packed bytes are buffers, as are biases of fused layers.
    others = [*model.parameters(), *(layer.bias for layer in packed if layer.bias is not None and _is_buffer(layer))]
    weights = packed_weights + sum(each.numel() for each in others)
    whole = packed_memory + sum(each.numel() * each.element_size() for each in others)
    if packed:
        return ModelSize(packed_weights, packed_memory, weights, whole)
    if not matrices:
        raise Error(f"model: {type(model).__name__} has no linear layer whose bits could be counted")
    linear_weights = sum(each.numel() for each in matrices)
    return ModelSize(linear_weights, sum(each.numel() * each.element_size() for each in matrices), weights, whole)


def packed_bytes(format: str) -> int:
    """Of a matrix with this `PackedWeight.format`, its table included."""
    known = formats.known(format)
    return known.packed_bytes + len(known.table_words)


def _is_buffer(layer: Linear) -> bool:
    return not isinstance(layer.bias, torch.nn.Parameter)
