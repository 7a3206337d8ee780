"""A linear layer that computes as its packed weight would, and whose scales and table have gradients."""

from __future__ import annotations

from typing import Any

from lutsmith._torch import torch
from lutsmith.packed_weight import PackedWeight

__all__ = ["RescaledLinear", "product"]


class RescaledLinear(torch.nn.Module):
    """Stands for a `torch.nn.Linear` of a model, which stays as it is.

    What is learned is relative, so that one learning rate does for layers of any size: a scale is what it began as,
    times its ratio; an entry of the table is moved by a part of the largest one.

    Attributes:
        ratios: parameter [N, groups of a row], 1 at first.
        moves: parameter [entries of the table], 0 at first; None where the table stays.
        quantized: whether the forward pass is the packed weight's, or that of the layer as it was given.
    """

    def __init__(self, linear: torch.nn.Linear, packed: PackedWeight, learn_table: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        # No parameters of this module: they are the model's, and not learned.
        self.weight = linear.weight.detach()
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.group = packed.group or packed.k
        self._packed_group = packed.group
        self.stored = packed.dtype
        self.first_scales = packed.scales().float().to(self.weight.device)
        # Sorted, as the nearest entry is looked for between two neighbours.
        self.first_values = torch.tensor(packed.table, device=self.weight.device).sort().values
        self.ratios = torch.nn.Parameter(torch.ones_like(self.first_scales))
        self.moves = torch.nn.Parameter(torch.zeros_like(self.first_values)) if learn_table else None
        self.quantized = True

    def scales(self) -> torch.Tensor:
        """[N, groups], as 16 bits hold them, in float32."""
        return _Rounded.apply(self.first_scales * self.ratios, self.stored)

    def values(self) -> torch.Tensor:
        """[entries], ascending, as 16 bits hold them, in float32."""
        if self.moves is None:
            return self.first_values
        moved = self.first_values + self.first_values.abs().max() * self.moves
        return _Rounded.apply(moved.sort().values, self.stored)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.quantized:
            return torch.nn.functional.linear(x, self.weight, self.bias)
        y = product(x, self.scales(), self.values(), self.weight, self.group)
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def packed(self) -> PackedWeight:
        """Of the scales and the table as they are."""
        scales, values = self.scales(), self.values()
        codes = _codes(self.weight, _spread(scales, self.group, self.in_features), values)
        return PackedWeight.from_codes(codes.to(torch.uint8), scales.to(self.stored), values, self._packed_group)


def product(
    x: torch.Tensor, scales: torch.Tensor, values: torch.Tensor, weight: torch.Tensor, group: int
) -> torch.Tensor:
    """x W^T, W[n, k] = scales[n, k / group] * values[code of weight[n, k] for these scales], [..., N] in x's type.

    The gradients of scales and values are those with codes held, which is what they are wherever no code changes:
    dL/dscale = sum of dL/dW * values[code] over the group, dL/dvalue = sum of dL/dW * scale over the weights with its
    code. W is made again on the way back, so a layer keeps nothing but x. values: ascending.
    """
    return _Product.apply(x, scales, values, weight, group)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scales: torch.Tensor, values: torch.Tensor, weight: torch.Tensor, group: int
    ) -> torch.Tensor:
        ctx.save_for_backward(x, scales, values, weight)
        ctx.group = group
        spread = _spread(scales, group, weight.shape[1])
        return x @ (values[_codes(weight, spread, values)] * spread).to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scales, values, weight = ctx.saved_tensors
        of_y = gradients[0].to(x.dtype)
        spread = _spread(scales, ctx.group, weight.shape[1])
        codes = _codes(weight, spread, values)
        looked_up = values[codes]
        of_x = of_y @ (looked_up * spread).to(x.dtype) if ctx.needs_input_grad[0] else None
        of_w = (of_y.flatten(0, -2).T @ x.flatten(0, -2)).to(scales.dtype)
        n, k = of_w.shape
        padded = torch.nn.functional.pad(of_w * looked_up, (0, -k % ctx.group))
        of_scales = padded.reshape(n, -1, ctx.group).sum(-1)
        of_values = None
        if ctx.needs_input_grad[2]:  # entry by entry: adding by index has no fixed order on a GPU
            moved = of_w * spread
            of_values = torch.stack([(moved * (codes == code)).sum() for code in range(len(values))])
        return of_x, of_scales, of_values, None, None


class _Rounded(torch.autograd.Function):
    """Rounded to a 16-bit type and back; the gradient is passed through."""

    @staticmethod
    def forward(ctx: Any, exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return exact.to(dtype).to(exact.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


def _spread(scales: torch.Tensor, group: int, k: int) -> torch.Tensor:
    """Of each weight its group's, [N, k]."""
    return scales.repeat_interleave(group, 1)[:, :k]


def _codes(weight: torch.Tensor, spread: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Of the nearest entries, [N, k], int32. A scale of 0 takes any entry; here that of 0."""
    halfway = (values[1:] + values[:-1]) / 2
    return torch.bucketize(torch.where(spread == 0, 0, weight.to(spread.dtype) / spread), halfway, out_int32=True)
