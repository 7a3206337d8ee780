"""A linear layer with a packed weight."""

from __future__ import annotations

from typing import Any

import lutsmith.operators  # registers torch.ops.lutsmith
from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.nn.gated import GatedLinear
from lutsmith.packed_weight import Group, PackedWeight, Table, quantize
from lutsmith.reordered import ReorderedWeight, check_order, in_order_of_x, reordered

__all__ = ["Linear", "set_batch_invariant"]


class Linear(torch.nn.Module):
    """``y = x @ W.T + bias`` with a packed ``W``: what stands in a model where a ``torch.nn.Linear`` stood.

    Shapes: ``x`` is ``[..., in_features]``, ``y`` is ``[..., out_features]``. Both have the type that the weight was
    packed for, float16 or bfloat16.

    Attributes:
        weight: buffer, uint8, one dimension: codes and scales as a kernel reads them.
        bias: parameter ``[out_features]`` or None.
        format: what the bytes of ``weight`` mean, as text (``PackedWeight.format``). A state dict has it as bytes,
            under ``_extra_state``.
        order: buffer ``[in_features]``, int32, or None, which a state dict leaves out: which column of W each stored
            one is (:class:`lutsmith.reordered.ReorderedWeight`). ``x`` is put into that order before the product.
        batch_invariant: whether a token's result is to be the same, bit for bit, whatever tokens are beside it, as for
            :func:`lutsmith.matmul`. How the weight is used, and so no part of a state dict; may be set at any time.
    """

    #: Of layers that were pickled by releases without it.
    batch_invariant: bool = False
    order: torch.Tensor | None

    def __init__(
        self,
        packed: PackedWeight | ReorderedWeight,
        bias: torch.Tensor | None = None,
        batch_invariant: bool = False,
    ) -> None:
        """``bias``: ``[n]``; it is converted to the weight's type."""
        super().__init__()
        order = None
        if isinstance(packed, ReorderedWeight):
            packed, order = packed.stored, packed.order
        self.in_features: int = packed.k
        self.out_features: int = packed.n
        self.format: str = packed.format
        self.batch_invariant = batch_invariant
        self.register_buffer("weight", packed.data)
        self.register_buffer("order", order)
        if bias is None:
            self.register_parameter("bias", None)
        else:
            if tuple(bias.shape) != (packed.n,):
                raise Error(f"bias: shape {tuple(bias.shape)} is not allowed; allowed: ({packed.n},)")
            bias = bias.detach().to(device=packed.data.device, dtype=packed.dtype)
            self.bias = torch.nn.Parameter(bias, requires_grad=False)

    @classmethod
    def from_linear(
        cls,
        linear: torch.nn.Linear,
        *,
        method: str = "nf",
        bits: int = 4,
        group: Group = 64,
        table: Table | None = None,
        dtype: torch.dtype | None = None,
        scales: str | None = None,
        importance: torch.Tensor | None = None,
        batch_invariant: bool = False,
        hadamard: int | None = None,
        seed: int = 0,
    ) -> Linear:
        """Quantizes a layer, which stays as it is; all but ``batch_invariant`` is as for :func:`lutsmith.quantize`."""
        weight = linear.weight.detach()
        packed = quantize(weight, method, bits, group, table, dtype, scales, importance, hadamard, seed)
        return cls(packed, linear.bias, batch_invariant)

    def to_linear(self, dtype: torch.dtype | None = None) -> torch.nn.Linear:
        """The layer with the weights that the codes stand for, in ``dtype`` (None: the type it was packed for)."""
        (packed,) = self.packed_weights()
        weight = packed.dequantize(dtype)
        if self.order is not None:
            weight = in_order_of_x(weight, self.order)
        linear = torch.nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device="meta", dtype=weight.dtype
        )
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        if self.bias is not None:
            linear.bias = torch.nn.Parameter(self.bias.detach().to(weight.dtype), requires_grad=False)
        return linear

    def packed_weights(self) -> list[PackedWeight]:
        """The weight, over the same memory, with its columns as they are stored. ``lutsmith.prepare`` finds a model's
        weights by this method."""
        return [PackedWeight(self.weight, self.format)]

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """``residual``: ``[..., out_features]``, added before the sums are rounded, by the same launch. Prepare its
        kernels with ``lutsmith.prepare(layer.packed_weights(), residual=True)``."""
        if self.order is not None:
            x = reordered(x, self.order)
        if residual is None:
            return torch.ops.lutsmith.matmul.default(x, self.weight, self.format, self.bias, self.batch_invariant)
        return torch.ops.lutsmith.matmul.default(
            x, self.weight, self.format, self.bias, self.batch_invariant, residual
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = state_dict.get(prefix + "order")
        if given is not None:
            check_order(given, self.in_features)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._buffers.setdefault("order", None)  # of layers that were pickled by releases without it

    # A tensor, since safetensors holds nothing else.
    def get_extra_state(self) -> torch.Tensor:
        return torch.frombuffer(bytearray(self.format.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: torch.Tensor | str) -> None:
        format = state if isinstance(state, str) else bytes(state.cpu().tolist()).decode()
        described = formats.known(format)
        if (described.n, described.k) != (self.out_features, self.in_features):
            raise Error(
                f"format: {described.describe()} is not allowed; allowed: {self.out_features}x{self.in_features}, the "
                "shape of this layer; load the weights of the same model"
            )
        self.format = format

    def _get_name(self) -> str:
        return "lutsmith.Linear"

    def extra_repr(self) -> str:
        known = formats.known(self.format)
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"bits={known.bits}, group={known.group or formats.CHANNEL}, "
            f"dtype={str(known.dtype).removeprefix('torch.')}"
            f"{'' if known.hadamard is None else f', hadamard={known.hadamard.block}'}"
            f"{'' if self.order is None else ', reordered=True'}"
            f"{', batch_invariant=True' if self.batch_invariant else ''}"
        )


def set_batch_invariant(model: torch.nn.Module, batch_invariant: bool = True) -> None:
    """Sets ``batch_invariant`` of every :class:`Linear` and :class:`GatedLinear` in ``model``.

    Call it before :func:`lutsmith.prepare`.

    Of a model of transformers also in its configuration, so that the model is saved with it.

    Raises:
        Error: where the model has no such layer.
    """
    layers = [module for module in model.modules() if isinstance(module, (Linear, GatedLinear))]
    if not layers:
        raise Error(f"model: {type(model).__name__} has no lutsmith.nn.Linear whose products could be batch-invariant")
    for layer in layers:
        layer.batch_invariant = batch_invariant
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    if config is not None and hasattr(config, "batch_invariant"):
        config.batch_invariant = batch_invariant
