"""A gated linear unit with a packed weight."""

from __future__ import annotations

import lutsmith.operators  # registers torch.ops.lutsmith
from lutsmith import formats, gpu
from lutsmith._torch import torch
from lutsmith.packed_rows import interleave_gate
from lutsmith.packed_weight import PackedWeight

__all__ = ["GatedLinear"]


class GatedLinear(torch.nn.Module):
    """``y = activation(x @ gate.T) * (x @ up.T)`` in one launch: of a feed-forward block what stands before the
    projection down.

    Shapes: ``x`` is ``[..., in_features]``, ``y`` is ``[..., out_features]``. Both have the type that the weights were
    packed for.

    Attributes:
        weight: buffer, uint8: gate and up, as :func:`lutsmith.interleave_gate` joins them.
        format: what its bytes mean (``PackedWeight.format``), of 2 * ``out_features`` rows.
        gated: the activation, "silu" or "gelu_tanh".
        batch_invariant: as for :class:`Linear`.
    """

    def __init__(
        self, gate: PackedWeight, up: PackedWeight, activation: str = "silu", batch_invariant: bool = False
    ) -> None:
        """Errors: those of :func:`lutsmith.interleave_gate`; for another activation."""
        super().__init__()
        gpu.variant_of(gated=activation)
        together = interleave_gate(gate, up)
        self.in_features: int = together.k
        self.out_features: int = gate.n
        self.format: str = together.format
        self.gated = activation
        self.batch_invariant = batch_invariant
        self.register_buffer("weight", together.data)

    def packed_weights(self) -> list[PackedWeight]:
        """The weight, over the same memory: what ``lutsmith.prepare`` makes kernels for."""
        return [PackedWeight(self.weight, self.format)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.lutsmith.gated_matmul.default(x, self.weight, self.format, self.gated, self.batch_invariant)

    def _get_name(self) -> str:
        return "lutsmith.GatedLinear"

    def extra_repr(self) -> str:
        known = formats.known(self.format)
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, activation={self.gated}, "
            f"bits={known.bits}, group={known.group or formats.CHANNEL}"
            f"{', batch_invariant=True' if self.batch_invariant else ''}"
        )
