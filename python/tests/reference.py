"""What the tests compare with: the same arithmetic in plain torch, in float64; and what they watch products by."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lutsmith


def random_weight(n: int, k: int, dtype: torch.dtype = torch.float16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, k, generator=generator) / k**0.5).to(dtype)


def quantized(weight: torch.Tensor, table: tuple[float, ...], group: int, dtype: torch.dtype) -> torch.Tensor:
    """Round to nearest by the definition, in float64; of two values as near the smaller.

    For tables that reach as far down as up.
    """
    n, k = weight.shape
    group = group or k
    values = torch.tensor(table, dtype=torch.float64).sort().values
    padded = torch.nn.functional.pad(weight.double(), (0, -k % group)).reshape(n, -1, group)
    scale = (padded.abs().amax(-1, keepdim=True) / values.abs().max()).to(dtype).double()
    halfway = (values[1:] + values[:-1]) / 2
    nearest = torch.bucketize(padded * (1 / scale), halfway)
    return (scale * values[nearest]).reshape(n, -1)[:, :k]


def product(x: torch.Tensor, packed: lutsmith.PackedWeight) -> torch.Tensor:
    """x W^T in float64, of the weights as they are after quantization."""
    return x.double() @ packed.dequantize(torch.float32).double().t()


def assert_right(result: torch.Tensor, expected: torch.Tensor) -> None:
    """Within the rounding of the result's type and of sums in float32 (docs: allowed_relative_error)."""
    allowed = {torch.float16: 2.0e-3, torch.bfloat16: 1.1e-2}[result.dtype]
    error = (result.double() - expected).norm() / expected.norm()
    assert result.shape == expected.shape
    assert error <= allowed, f"relative error {error:.2e}"


class Products(TorchDispatchMode):
    """Notes of every product of packed weights whether it is to be batch-invariant."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_invariant: list[bool] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        operators = torch.ops.lutsmith
        places = {operators.matmul.default: 4, operators.matmul_out.default: 5, operators.gated_matmul.default: 4}
        if operator in places:  # torch leaves out what is the default
            place = places[operator]
            named = (kwargs or {}).get("batch_invariant", False)
            self.batch_invariant.append(args[place] if len(args) > place else named)
        return operator(*args, **(kwargs or {}))
