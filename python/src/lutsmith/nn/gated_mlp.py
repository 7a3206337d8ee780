"""MLPs of transformers whose gate and up are one gated launch, with the activation and the product of the two.

Their forward is ``down_proj(act_fn(gate_proj(x)) * up_proj(x))``, of which all but ``down_proj`` is what a
:class:`GatedLinear` computes. Gate and up stay members of the module, as its state dict has their names.
"""

from __future__ import annotations

from collections.abc import Sequence

from lutsmith import formats
from lutsmith._torch import torch
from lutsmith.nn.fused import FusedMember
from lutsmith.nn.gated import GatedLinear
from lutsmith.nn.linear import Linear
from lutsmith.packed_rows import GATE_ROWS, interleave_gate, separate_gate, why_apart
from lutsmith.packed_weight import PackedWeight
from lutsmith.reordered import reordered

__all__ = ["GatedMLP", "GatedMember", "activation_of", "gate", "why_no_gate"]

_ACTIVATIONS = {
    "silu": torch.nn.functional.silu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}


class _GatedWeight(GatedLinear):
    """Gate and up of a :class:`GatedMLP`; its buffer is no part of a state dict, which has the members' weights."""

    def __init__(self, gate: Linear, up: Linear, activation: str) -> None:
        (of_gate,), (of_up,) = gate.packed_weights(), up.packed_weights()
        super().__init__(of_gate, of_up, activation, gate.batch_invariant)
        self.register_buffer("weight", self.weight, persistent=False)
        self.register_buffer("order", gate.order, persistent=False)  # that of up is the same

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if self.order is None else reordered(x, self.order))

    def forget(self) -> None:
        """Nothing: no results are kept."""


class GatedMember(FusedMember):
    """Gate or up of a :class:`GatedMLP`: a :class:`Linear` to those who look, without memory of its own.

    ``weight`` is a copy. Weights of the same format can be loaded; others before layers are fused. Called by itself it
    multiplies by the rows of both and keeps its own.
    """

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        (together,) = self._together
        if together.weight.is_meta:
            return together.weight.new_empty(formats.known(self.format).packed_bytes)
        return separate_gate(PackedWeight(together.weight, together.format))[self._index].data

    @property
    def bias(self) -> None:  # type: ignore[override]
        return None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (together,) = self._together
        if together.order is not None:
            x = reordered(x, together.order)
        both = torch.ops.lutsmith.matmul.default(
            x, together.weight, together.format, None, together.batch_invariant
        )
        return both.unflatten(-1, (-1, 2, GATE_ROWS)).select(-2, self._index).flatten(-2)

    @torch.no_grad()
    def _write(self, name: str, given: torch.Tensor) -> None:
        (together,) = self._together
        members = list(separate_gate(PackedWeight(together.weight, together.format)))
        members[self._index] = PackedWeight(given.to(together.weight.device), self.format)
        together.weight.copy_(interleave_gate(*members).data)

    def _get_name(self) -> str:
        return "lutsmith.GatedMember"


class GatedMLP(torch.nn.Module):
    """What an MLP of transformers becomes, in place: it keeps its members, hooks and all else that it has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.gate_proj, GatedMember) and isinstance(self.up_proj, GatedMember):
            return self.down_proj(self.gate_proj.fused(x))
        # As before, such as once torch's layers were given back.
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))

    def _get_name(self) -> str:
        return "lutsmith.GatedMLP"


def activation_of(module: torch.nn.Module) -> str | None:
    """Which of the activations that kernels have ``act_fn`` of an MLP is, by what it gives; None: another one."""
    x = torch.linspace(-9, 9, 145, dtype=torch.float64, device="cpu")
    try:
        given = module.act_fn(x)
    except (AttributeError, RuntimeError, TypeError):  # there is none, or not for tensors of any type
        return None
    for name, activation in _ACTIVATIONS.items():
        if isinstance(given, torch.Tensor) and given.shape == x.shape and (given - activation(x)).abs().max() < 1e-5:
            return name
    return None


def why_no_gate(module: torch.nn.Module, gate: Linear, up: Linear) -> str | None:
    """Why gate and up of an MLP, which may be fused, cannot be gated as well; None: they can."""
    if "forward" in vars(module):
        return "the module's forward is not that of its class, such as where accelerate moves weights"
    if activation_of(module) is None:
        return "the activation is neither silu nor gelu in its form with tanh"
    if gate.bias is not None or up.bias is not None:
        return "gate or up has a bias"
    if gate.out_features != up.out_features:
        return f"{gate.out_features} and {up.out_features} rows"
    if gate.out_features % GATE_ROWS:
        return f"{gate.out_features} rows are no multiple of {GATE_ROWS}"
    return why_apart([(layer.format, layer.weight.device) for layer in (gate, up)], one_table=True)


def gate(module: torch.nn.Module) -> None:
    """Makes a :class:`GatedMLP` of an MLP that :func:`why_no_gate` finds nothing against."""
    layers: Sequence[Linear] = (module.gate_proj, module.up_proj)
    together = _GatedWeight(*layers, activation_of(module))
    module.gate_proj, module.up_proj = (GatedMember(layer, together, index) for index, layer in enumerate(layers))
    module.__class__ = GatedMLP  # whose forward it then has; nothing else of the module changes, or of who holds it
