"""Layers that have the same input, such as q, k and v or gate and up, multiplied by one launch.

Their rows stand below one another in one weight, `FusedWeight`, of which each layer is a `FusedMember`: it has the
names, the state dict and the results of the `Linear` that it was, but no memory of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.nn.linear import Linear
from lutsmith.packed_rows import GATE_ROWS, PANEL_ROWS, concatenate, pieces, why_apart
from lutsmith.packed_weight import PackedWeight
from lutsmith.reordered import reordered

__all__ = ["Fused", "FusedLinear", "FusedMember", "FusedWeight", "fuse"]

_EXAMPLES = 4  # names in a message
_TABLE_ROWS = 128  # of a table of their own, in multiples: tiles of many tokens, and of batch-invariant kernels

# Modules of transformers whose forward calls each of these members once, one after another, on one stream and with the
# same tensor, which nothing changes in between.
_FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3")
_GATE_AND_UP = ("gate_proj", "up_proj")
_MEMBERS = {
    **{f"{family}Attention": ("q_proj", "k_proj", "v_proj") for family in _FAMILIES},
    **{f"{family}MLP": _GATE_AND_UP for family in _FAMILIES},
}


class _Product(NamedTuple):
    """Of all rows, until every member has taken its part."""

    x: torch.Tensor
    version: int | None
    parts: list[torch.Tensor | None]


class _Last:
    """The last product that was not taken whole. An object of its own, as torch.export lets no module be changed."""

    def __init__(self) -> None:
        self.product: _Product | None = None

    def __reduce__(self) -> Any:  # of no copy
        return (_Last, ())


class FusedWeight(torch.nn.Module):
    """The rows of several layers. A child of the first of them; its buffers are no part of a state dict.

    Attributes:
        sizes: rows of each member.
        format: of all rows (``PackedWeight.format``).
        batch_invariant, order: as for :class:`Linear`; the same of all members.
    """

    def __init__(self, layers: Sequence[Linear]) -> None:
        """Layers that :func:`_why_apart` finds nothing against."""
        super().__init__()
        packed = concatenate([weight for layer in layers for weight in layer.packed_weights()])
        self.sizes: list[int] = [layer.out_features for layer in layers]
        self.in_features: int = packed.k
        self.format: str = packed.format
        self.batch_invariant: bool = layers[0].batch_invariant
        self.register_buffer("weight", packed.data, persistent=False)
        bias = None
        if any(layer.bias is not None for layer in layers):
            like = packed.data.new_empty((), dtype=packed.dtype)
            bias = torch.cat(
                [like.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach() for layer in layers]
            )
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("order", layers[0].order, persistent=False)
        self.last = _Last()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All members' results, ``[..., sum of sizes]``."""
        if self.order is not None:
            x = reordered(x, self.order)
        return torch.ops.lutsmith.matmul.default(x, self.weight, self.format, self.bias, self.batch_invariant)

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """One member's result. The others' are kept for as long as they are not asked for, with the same ``x``.

        The same tensor, that is, and not written to since, as far as torch counts that: it does not in inference mode
        and while it compiles. Another tensor is multiplied anew, by all rows.
        """
        version = None if torch.compiler.is_compiling() or x.is_inference() else x._version
        product = self.last.product
        if product is None or product.x is not x or product.version != version or product.parts[index] is None:
            product = self.last.product = _Product(x, version, list(self(x).split(self.sizes, -1)))
        y = product.parts[index]
        product.parts[index] = None  # asked for again it is computed again
        if all(part is None for part in product.parts):
            self.last.product = None
        return y

    def forget(self) -> None:
        """Drops what was computed by what the weight was before."""
        self.last.product = None

    def packed_weights(self) -> list[PackedWeight]:
        return [PackedWeight(self.weight, self.format)]

    def _get_name(self) -> str:
        return "lutsmith.FusedWeight"

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, sizes={self.sizes}"


class FusedMember(Linear):
    """A :class:`Linear` whose rows are among those of a :class:`FusedWeight`.

    ``weight`` and ``bias`` are read from there: slices, or copies where the weight has a plane of scales. A state dict
    has them as those of a ``Linear``. Weights of the same format can be loaded; others before layers are fused.
    """

    def __init__(self, layer: Linear, fused: FusedWeight, index: int) -> None:
        torch.nn.Module.__init__(self)
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        self.format = layer.format
        self.training = layer.training
        self._has_bias = layer.bias is not None
        self._index = index
        # In a tuple torch does not see it: it is to be a child of one member only.
        self._together = (fused,)
        if index == 0:
            self.fused = fused

    @property
    def _rows(self) -> tuple[int, int]:
        (fused,) = self._together
        start = sum(fused.sizes[: self._index])
        return start, start + self.out_features

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        (fused,) = self._together
        found = [fused.weight[piece] for piece in pieces(formats.known(fused.format), *self._rows)]
        return found[0] if len(found) == 1 else torch.cat(found)

    @property
    def bias(self) -> torch.Tensor | None:  # type: ignore[override]
        return self._together[0].bias[slice(*self._rows)] if self._has_bias else None

    @property
    def order(self) -> torch.Tensor | None:  # type: ignore[override]
        return self._together[0].order

    @property
    def batch_invariant(self) -> bool:  # type: ignore[override]
        return self._together[0].batch_invariant

    @batch_invariant.setter
    def batch_invariant(self, value: bool) -> None:
        self._together[0].batch_invariant = value
        self._together[0].forget()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._together[0].part(self._index, x)

    def launched_weights(self) -> list[PackedWeight]:
        """None: the fused weight's are launched."""
        return []

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight
        if self._has_bias:
            destination[prefix + "bias"] = self.bias
        if self.order is not None:
            destination[prefix + "order"] = self.order.clone()  # safetensors writes no two tensors of one memory
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        rest = dict(state_dict)
        own = {"weight": self.weight, **({"bias": self.bias} if self._has_bias else {})}
        if self.order is not None:
            own["order"] = self.order
        given = {name: rest.pop(prefix + name) for name in own if prefix + name in state_dict}
        super()._load_from_state_dict(
            rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        for name, tensor in own.items():
            if name not in given:
                missing_keys.extend([prefix + name] if strict else [])
            elif given[name].shape != tensor.shape:
                error_msgs.append(
                    f"{prefix}{name}: shape {tuple(given[name].shape)} is not allowed; allowed: {tuple(tensor.shape)}"
                )
            elif name != "order":
                self._write(name, given[name])
            elif not torch.equal(given[name].to(tensor.device), tensor):
                error_msgs.append(
                    f"{prefix}order: another order of columns is not allowed; allowed: the one that all members of "
                    "this fused layer have; load the weights before layers are fused"
                )
        self._together[0].forget()

    @torch.no_grad()
    def _write(self, name: str, given: torch.Tensor) -> None:
        (fused,) = self._together
        places = [slice(*self._rows)] if name == "bias" else pieces(formats.known(fused.format), *self._rows)
        done = 0
        for place in places:
            size = place.stop - place.start
            getattr(fused, name)[place].copy_(given[done : done + size])
            done += size

    def set_extra_state(self, state: torch.Tensor | str) -> None:
        before = self.format
        super().set_extra_state(state)
        if self.format != before:
            given, self.format = formats.known(self.format).describe(), before
            raise Error(
                f"format: {given} is not allowed; allowed: {formats.known(before).describe()} with the table that this "
                "member of a fused layer has; load the weights before layers are fused"
            )

    def _get_name(self) -> str:
        return "lutsmith.FusedMember"


class FusedLinear(torch.nn.Module):
    """Several layers of one input: ``x [..., K]`` -> a tuple of ``y [..., N]``, one for each member.

    One launch where the members' weights differ in nothing but N and the values of their tables, else one for each.

    Attributes:
        members: the layers, by which a state dict names what there is.
        sizes: N of each.
        apart: why they take a launch each; None where they are fused.
    """

    def __init__(self, layers: Sequence[Linear]) -> None:
        """The layers' weights are copied into one; where they cannot be, the layers themselves become members."""
        super().__init__()
        layers = list(layers)
        for layer in layers:
            if not isinstance(layer, Linear):
                raise Error(f"layers: {type(layer).__name__} is not allowed; allowed: lutsmith.nn.Linear")
        if not layers:
            raise Error("layers: none given; give at least one lutsmith.nn.Linear")
        if len({layer.in_features for layer in layers}) > 1:
            raise Error(
                f"layers: {', '.join(str(layer.in_features) for layer in layers)} in_features are not allowed; "
                "allowed: layers of one input"
            )
        self.sizes: list[int] = [layer.out_features for layer in layers]
        self.apart: str | None = _why_apart(layers)
        self.members = torch.nn.ModuleList(_joined(layers) if self.apart is None else layers)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.apart is None:
            return self.members[0].fused(x).split(self.sizes, -1)
        return tuple(member(x) for member in self.members)

    def _get_name(self) -> str:
        return "lutsmith.FusedLinear"

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, " + ("fused" if self.apart is None else f"not fused: {self.apart}")


class Fused(NamedTuple):
    """What `fuse` did."""

    launches: int  #: each of which takes the place of two or three, of gate and up also of what stands behind them
    apart: dict[str, str]  #: modules whose members stay apart, by name, and why


def fuse(model: torch.nn.Module) -> Fused:
    """Has q, k and v, and gate and up, of a model of transformers multiplied by one launch each.

    That of gate and up also applies the activation and multiplies the two, rounding once, where the activation is silu
    or gelu in its form with tanh and neither has a bias: the MLP is two launches then. Its module gets another class
    with another ``forward`` for that; its rows of gate and up take turns, as in a :class:`GatedLinear`.

    All other code of the model stays as it is, and so do the names in its state dict: in place of each :class:`Linear`
    stands a member of one weight. Of those that are not gated, whichever is called first multiplies by all rows, the
    others give their part of that. What their parts are remembered by is the input tensor itself; so it must not be
    written to between the members' calls where torch does not count that (in inference mode, or compiled), and they
    must run on one stream. That is so for the attention and MLP of Llama, Mistral, Qwen 2.5 and 3 and Gemma 2 and 3,
    which are what is looked for; modules of your own take :class:`FusedLinear` and :class:`GatedLinear`.

    Call it when weights are loaded and before :func:`lutsmith.prepare`, a capture or ``torch.compile``. Calling it
    again changes nothing. On a GPU the order of sums, and so the last bits, can be others than before; gated results
    are rounded once instead of four times.

    Raises:
        Error: where the model has no such module with packed weights.
    """
    from lutsmith.nn import gated_mlp  # which makes its members of those here

    launches, known = 0, 0
    apart: dict[str, str] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, gated_mlp.GatedMLP):
            known += any(isinstance(layer, FusedMember) for layer in module.children())
            continue
        members = _MEMBERS.get(type(module).__name__, ())
        layers = [getattr(module, member, None) for member in members]
        if not any(isinstance(layer, Linear) for layer in layers):
            continue
        known += 1
        if all(isinstance(layer, FusedMember) for layer in layers):
            continue
        if members == _GATE_AND_UP and _why_apart(layers, GATE_ROWS) is None:
            if gated_mlp.why_no_gate(module, *layers) is None:
                gated_mlp.gate(module)
                launches += 1
                continue
        reason = _why_apart(layers)
        if reason is not None:
            apart[f"{name}.{members[0]}" if name else members[0]] = reason
            continue
        for member, joined in zip(members, _joined(layers)):
            setattr(module, member, joined)
        launches += 1
    if not known:
        raise Error(
            f"model: {type(model).__name__} has no packed layers in a module that is known: allowed are "
            f"{', '.join(list(_MEMBERS)[:_EXAMPLES])}, ... of transformers; lutsmith.nn.FusedLinear is for others"
        )
    return Fused(launches, apart)


def _joined(layers: Sequence[Linear]) -> list[FusedMember]:
    fused = FusedWeight(layers)
    return [FusedMember(layer, fused, index) for index, layer in enumerate(layers)]


def _why_apart(layers: Sequence[torch.nn.Module], multiple: int = PANEL_ROWS) -> str | None:
    """Why layers of one input cannot take one launch; None: they can. Rows of one come in multiples."""
    for layer in layers:
        if type(layer) is not Linear:
            return f"a {type(layer).__name__} of {type(layer).__module__} is no lutsmith.nn.Linear"
        if layer._forward_hooks or layer._forward_pre_hooks or hasattr(layer, "_hf_hook"):
            return "there are hooks on a member, such as those by which accelerate moves weights"
    if len(layers) == 1:
        return "there is one member"
    if any(layer.weight.is_meta for layer in layers):
        return "weights are not loaded"
    formats_and_devices = [(layer.format, layer.weight.device) for layer in layers]
    reason = why_apart(formats_and_devices, segment_rows=_TABLE_ROWS)
    if reason is not None:
        return reason
    if len({layer.batch_invariant for layer in layers}) > 1:
        return "batch_invariant False and True"
    orders = [layer.order for layer in layers]
    alike = all(order is None for order in orders)
    if not alike and not all(order is not None and torch.equal(order, orders[0]) for order in orders):
        return "different orders of columns (act-order)"
    for layer in layers[:-1]:
        if layer.out_features % multiple:
            return f"{layer.out_features} rows of a member that is not the last are no multiple of {multiple}"
    return None
