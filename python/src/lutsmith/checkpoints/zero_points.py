"""Integers with zero points, weight = scale * (code - zero), as GPTQ, AWQ and compressed-tensors store them."""

from __future__ import annotations

from lutsmith._torch import torch
from lutsmith.checkpoints.layers import Aligned, Codes

__all__ = ["differ", "with_zeros"]


def differ(zeros: torch.Tensor) -> bool:
    """Whether an offset beside each scale is needed; zero points that are all alike are in the table."""
    low, high = zeros.aminmax()
    return bool(low != high)


def with_zeros(codes: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, bits: int, aligned: Aligned) -> Codes:
    """scale * (code - zero) as scale * table[code], or as scale * table[code] + offset where zero points differ.

    Then the table is code - middle and the offset scale * (middle - zero), not -scale * zero: zero points are near the
    middle, so that the offset is small. Rounded to the type of the scales it loses less, and nothing where |middle -
    zero| is 0 or a power of two.

    Args:
        codes: [n, k], uint8. scales, zeros: [n, groups], float32 and integers; all three as the checkpoint has them.
        aligned: which groups and columns become of them.
    """
    codes = aligned.columns(codes)
    scales, zeros = scales[:, aligned.index].contiguous(), zeros[:, aligned.index]
    integers = torch.arange(2**bits, dtype=torch.float32)
    if not differ(zeros):
        return Codes(codes, scales, integers - zeros.flatten()[0], aligned.group, order=aligned.order)
    middle = 2 ** (bits - 1)
    return Codes(codes, scales, integers - middle, aligned.group, scales * (middle - zeros), aligned.order)
