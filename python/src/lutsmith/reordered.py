"""Packed weights whose columns are stored in another order than x has them, as GPTQ's act-order leaves them.

Act-order quantizes the most important columns first and gives neighbours of that order one scale, so that the columns
of a group are spread over K. Stored group by group they are a packed weight like any other, and x is put into the same
order before each product: one launch more, of the size of x.

    W's columns    0 1 2 3 4 5 6 7         y = x W^T = x[order] stored^T
    their groups   1 0 0 1 1 0 1 0
    order          1 2 5 7 0 3 4 6         column j of `stored` is column order[j] of W
"""

from __future__ import annotations

from dataclasses import dataclass

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.packed_weight import PackedWeight

__all__ = ["ReorderedWeight", "check_order", "in_order_of_x", "reordered"]


@dataclass(frozen=True, eq=False)
class ReorderedWeight:
    """A quantized matrix W [n, k] whose columns are stored in another order. :func:`lutsmith.matmul` takes x as it is.

    Attributes:
        stored: the matrix with its columns in the order in which they are stored.
        order: [k], int32, on the device of `stored`: which column of W each stored one is.
    """

    stored: PackedWeight
    order: torch.Tensor

    def __post_init__(self) -> None:
        """Raises Error where `order` is none of the matrix's columns."""
        check_order(self.order, self.stored.k)
        order = self.order.to(device=self.stored.device, dtype=torch.int32).contiguous()
        object.__setattr__(self, "order", order)

    @property
    def shape(self) -> tuple[int, int]:
        return self.stored.shape

    @property
    def device(self) -> torch.device:
        return self.stored.device

    def dequantize(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """W [n, k] with its columns in the order of x, as :meth:`PackedWeight.dequantize` gives them."""
        return in_order_of_x(self.stored.dequantize(dtype), self.order)

    def to(self, device: torch.device | str | int) -> ReorderedWeight:
        """The same on another device; itself where it is there already."""
        stored = self.stored.to(device)
        return self if stored is self.stored else ReorderedWeight(stored, self.order)

    def packed_weights(self) -> list[PackedWeight]:
        """The stored matrix: what ``lutsmith.prepare`` makes kernels for."""
        return [self.stored]


def check_order(order: torch.Tensor, k: int) -> None:
    """Raises Error where `order` does not name each of k columns once."""
    if tuple(order.shape) != (k,) or order.is_floating_point():
        raise Error(f"order: {order.dtype} {list(order.shape)} is not allowed; allowed: integers [{k}], a column each")
    if order.is_meta:
        return
    if not torch.equal(order.long().sort().values, torch.arange(k, device=order.device)):
        raise Error(f"order: is not allowed; allowed: each of the columns 0 to {k - 1} once")


def reordered(x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """x [..., k], whose channels are those of W, as the stored columns want it. Raises Error for other shapes."""
    if x.dim() == 0 or x.shape[-1] != order.shape[0]:
        raise Error(f"x: shape {tuple(x.shape)} is not allowed; allowed: [..., {order.shape[0]}], as the weights have")
    return x.index_select(-1, order)


def in_order_of_x(stored: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Columns [..., k] as they are stored -> as W has them."""
    return torch.empty_like(stored).index_copy_(-1, order.long(), stored)
