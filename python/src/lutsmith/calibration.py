"""What the linear layers of a model see when it reads some text: the statistics that quantizers weigh errors by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["InputStatistics", "block_by_block", "calibrate", "calls_of", "evaluation_mode", "product_energy"]

_EXAMPLES = 4  # names in a message


@dataclass
class InputStatistics:
    """Of the inputs x of a linear layer [N, K], over all tokens that it saw.

    Attributes:
        tokens: how many.
        mean_absolute: [K], float64, on the CPU, the mean of abs(x).
        mean_square: the same of x**2: what `lutsmith.quantize` takes as importance.
        hessian: [K, K], float32, the sum of x x^T, on the layer's device; None where it was not asked for.
        held_out: the same over the tokens that `hessian` was not told of; None where none were held out.
    """

    tokens: int
    mean_absolute: torch.Tensor
    mean_square: torch.Tensor
    hessian: torch.Tensor | None
    held_out: torch.Tensor | None = None

    def _add(self, x: torch.Tensor, held_out: float) -> None:
        x = x.detach().reshape(-1, x.shape[-1]).float()
        seen = self.tokens + x.shape[0]
        for mean, values in ((self.mean_absolute, x.abs()), (self.mean_square, x.square())):
            mean += (values.sum(0, dtype=torch.float64).cpu() - x.shape[0] * mean) / max(seen, 1)
        self.tokens = seen
        if self.hessian is None:
            return
        if self.held_out is not None:
            # The last ones: whole sequences where a call has several, for neighbours are much alike.
            kept = x.shape[0] - round(held_out * x.shape[0])
            x, apart = x[:kept], x[kept:]
            self.held_out.addmm_(apart.T, apart)
        self.hessian.addmm_(x.T, x)


def calibrate(
    model: torch.nn.Module,
    batches: torch.Tensor | Mapping[str, Any] | Iterable[Any],
    layers: Sequence[str] | None = None,
    hessians: bool = False,
    held_out: float = 0.0,
) -> dict[str, InputStatistics]:
    """Runs a model, and collects what its linear layers get.

    Args:
        model: is called without gradients, in evaluation mode, and left as it was.
        batches: token numbers [sequences, length], the only argument of a call, or a dict of keyword arguments such as
            a tokenizer gives; or several of these. Tensors are moved to the model's device.
        layers: names of modules; all `torch.nn.Linear` by default.
        hessians: whether x x^T is summed as well: 4 * K**2 bytes for each layer, so give `layers` for large models.
        held_out: the part of each call's tokens, its last ones, whose x x^T is summed apart, for a second Hessian that
            tells how much of what is gained on the first holds for tokens not seen. Below 1.

    Returns:
        For each layer its statistics, by name. Layers that were not called are left out.

    Raises:
        Error: where the model has no linear layer, a name is none's, a batch is something else, or no layer was called;
            for another part than allowed.
    """
    linear = _linear_layers(model)
    if not linear:
        raise Error(f"model: {type(model).__name__} has no torch.nn.Linear; calibrate it before its layers are packed")
    unknown = [name for name in layers or [] if name not in linear]
    if unknown:
        raise Error(
            f"layers: {unknown[0]!r} is no torch.nn.Linear of {type(model).__name__}; allowed: "
            f"{', '.join(list(linear)[:_EXAMPLES])}, ..."
        )
    watched = {name: linear[name] for name in (linear if layers is None else layers)}
    with _evaluating(model), _watching(watched, hessians, held_out) as statistics:
        for arguments, named in calls_of(model, batches):
            model(*arguments, **named)
    if not statistics:
        raise Error("batches: no linear layer was called; give token numbers [sequences, length]")
    return statistics


def block_by_block(
    model: torch.nn.Module,
    batches: torch.Tensor | Mapping[str, Any] | Iterable[Any],
    hessians: bool = False,
    held_out: float = 0.0,
) -> Iterator[tuple[str, torch.nn.Linear, InputStatistics]]:
    """As `calibrate`, but of each decoder layer's linear layers behind the decoder layers as they are by then.

    For quantizing a model from its first decoder layer to its last, each on what the ones before it have become: the
    caller changes the weight of a layer when it is given it. Every decoder layer is run twice for each batch, with what
    it gets of other things than hidden states (masks, positions) in the model as it was.

    Args:
        model: of transformers, whose decoder layers are modules with `self_attn` and `mlp`, one after the other, the
            first argument of each what the one before gave.
        batches, hessians, held_out: as for `calibrate`. Hidden states of all tokens are kept on the model's device.

    Yields:
        Name, layer and statistics of every linear layer of the decoder layers that was called.

    Raises:
        Error: where the model has no such decoder layers; as `calibrate`.
    """
    blocks = {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "self_attn") and hasattr(module, "mlp")
    }
    if not blocks:
        raise Error(f"model: {type(model).__name__} has no decoder layers, modules with self_attn and mlp")
    named_arguments: dict[str, list[dict[str, Any]]] = {name: [] for name in blocks}
    states: list[torch.Tensor] = []

    def keep(name: str) -> Any:
        def add(_: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            if not named_arguments[name]:
                order.append(name)
            named_arguments[name].append(named)
            if name == order[0]:
                states.append(arguments[0])

        return add

    order: list[str] = []
    with _evaluating(model):
        hooks = [block.register_forward_pre_hook(keep(name), with_kwargs=True) for name, block in blocks.items()]
        try:
            for arguments, named in calls_of(model, batches):
                model(*arguments, **{**named, "use_cache": False})
        finally:
            for hook in hooks:
                hook.remove()
    for block in order:
        inside = _linear_layers(blocks[block], block + ".")
        with _evaluating(model), _watching(inside, hessians, held_out) as statistics:
            for state, named in zip(states, named_arguments[block], strict=True):
                blocks[block](state, **named)
        for name, seen in statistics.items():
            yield name, inside[name], seen
        with _evaluating(model):
            for index, named in enumerate(named_arguments[block]):
                made = blocks[block](states[index], **named)
                states[index] = made[0] if isinstance(made, tuple) else made


def _linear_layers(module: torch.nn.Module, prefix: str = "") -> dict[str, torch.nn.Linear]:
    return {prefix + name: each for name, each in module.named_modules() if isinstance(each, torch.nn.Linear)}


def calls_of(
    model: torch.nn.Module, batches: torch.Tensor | Mapping[str, Any] | Iterable[Any]
) -> Iterator[tuple[tuple[torch.Tensor, ...], dict[str, Any]]]:
    """The arguments of each call that `batches`, as `calibrate` takes them, ask for; tensors on the model's device."""
    device = next(model.parameters()).device
    for batch in [batches] if isinstance(batches, (torch.Tensor, Mapping)) else batches:
        if isinstance(batch, torch.Tensor):
            yield (batch.to(device),), {}
        elif isinstance(batch, Mapping):
            moved = {k: value.to(device) if isinstance(value, torch.Tensor) else value for k, value in batch.items()}
            yield (), moved
        else:
            raise Error(
                f"batches: {type(batch).__name__} is not allowed; allowed: tensors of token numbers [sequences, length], "
                "or dicts of keyword arguments"
            )


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards every module in the mode it was in."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without gradients, and in evaluation mode."""
    with evaluation_mode(model), torch.no_grad():
        yield


@contextmanager
def _watching(
    layers: dict[str, torch.nn.Linear], hessians: bool, held_out: float
) -> Iterator[dict[str, InputStatistics]]:
    """What the layers get in the meantime, of those that are called."""
    if not 0 <= held_out < 1:
        raise Error(f"held_out: {held_out} is not allowed; allowed: from 0 to below 1, such as 0.25")
    statistics: dict[str, InputStatistics] = {}

    def watch(name: str) -> Any:
        def add(module: torch.nn.Linear, arguments: tuple[torch.Tensor, ...]) -> None:
            if name not in statistics:
                k = module.in_features
                zeros = torch.zeros(k, dtype=torch.float64)
                hessian = torch.zeros(k, k, device=module.weight.device) if hessians else None
                apart = torch.zeros_like(hessian) if hessian is not None and held_out > 0 else None
                statistics[name] = InputStatistics(0, zeros, zeros.clone(), hessian, apart)
            statistics[name]._add(arguments[0], held_out)

        return add

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield statistics
    finally:
        for hook in hooks:
            hook.remove()


def product_energy(matrix: torch.Tensor, hessian: torch.Tensor) -> float:
    """trace(M H M^T): the sum of the squares of M x over the tokens x whose Hessian, the sum of x x^T, is given.

    matrix: [N, K], on the device where this is computed. hessian: [K, K], in whose type.
    """
    matrix = matrix.to(hessian.dtype)
    hessian = hessian.to(matrix.device)
    return float(((matrix @ hessian) * matrix).sum(dtype=torch.float64))
