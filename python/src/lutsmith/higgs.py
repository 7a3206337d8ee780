"""Tables of the method "higgs", made for normal weights of variance 1, which a Hadamard transform makes of any.

Malinovskii et al., Pushing the Limits of Large Language Model Quantization via the Linearity Theorem, 2024: weights are
transformed, a group's scale is the root mean square of its weights, and codes are the nearest points of the grid with
the least mean squared error for the normal distribution, of p = 1 or 2 dimensions.
"""

from __future__ import annotations

from typing import Any

from lutsmith import _core
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.normal_grids import GRIDS

__all__ = ["METHOD", "table"]

METHOD = "higgs"
_KINDS = ("pair", "scalar")  # p = 2 and p = 1, the usual one first


def table(bits: int, kind: Any = None) -> tuple[torch.Tensor, str]:
    """float32 values and their kind, as `lutsmith.quantize` takes it: "pair", also for None, or "scalar"."""
    if kind is None:
        kind = _KINDS[0]
    if not isinstance(kind, str) or kind not in _KINDS:
        given = repr(kind) if isinstance(kind, str) else "values of your own"
        raise Error(f"table: {given}: not allowed with method {METHOD}; allowed: {', '.join(map(repr, _KINDS))}")
    if kind == "scalar":
        return torch.tensor(_core.table("lloyd", bits), dtype=torch.float32, device="cpu"), kind
    grids = {size.bit_length() // 2: grid for size, grid in GRIDS.items()}
    if bits not in grids:
        allowed = ", ".join(map(str, grids))
        raise Error(
            f"bits: {bits} is not allowed with method {METHOD} and pairs; allowed: {allowed}, or table='scalar'"
        )
    return torch.tensor(grids[bits], dtype=torch.float32, device="cpu").flatten(), kind
