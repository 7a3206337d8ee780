"""What the linear layers of a model see when it reads some text: the statistics that quantizers weigh errors by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["InputStatistics", "calibrate", "product_energy"]

_EXAMPLES = 4  # names in a message


@dataclass
class InputStatistics:
    """Of the inputs x of a linear layer [N, K], over all tokens that it saw.

    Attributes:
        tokens: how many.
        mean_absolute: [K], float64, on the CPU, the mean of abs(x).
        mean_square: the same of x**2: what `lutsmith.quantize` takes as importance.
        hessian: [K, K], float32, the sum of x x^T, on the layer's device; None where it was not asked for.
    """

    tokens: int
    mean_absolute: torch.Tensor
    mean_square: torch.Tensor
    hessian: torch.Tensor | None

    def _add(self, x: torch.Tensor) -> None:
        x = x.detach().reshape(-1, x.shape[-1]).float()
        seen = self.tokens + x.shape[0]
        for mean, values in ((self.mean_absolute, x.abs()), (self.mean_square, x.square())):
            mean += (values.sum(0, dtype=torch.float64).cpu() - x.shape[0] * mean) / max(seen, 1)
        self.tokens = seen
        if self.hessian is not None:
            self.hessian.addmm_(x.T, x)


def calibrate(
    model: torch.nn.Module,
    batches: torch.Tensor | Mapping[str, Any] | Iterable[Any],
    layers: Sequence[str] | None = None,
    hessians: bool = False,
) -> dict[str, InputStatistics]:
    """Runs a model, and collects what its linear layers get.

    Args:
        model: is called without gradients, in evaluation mode, and left as it was.
        batches: token numbers [sequences, length], the only argument of a call, or a dict of keyword arguments such as
            a tokenizer gives; or several of these. Tensors are moved to the model's device.
        layers: names of modules; all `torch.nn.Linear` by default.
        hessians: whether x x^T is summed as well: 4 * K**2 bytes for each layer, so give `layers` for large models.

    Returns:
        For each layer its statistics, by name. Layers that were not called are left out.

    Raises:
        Error: where the model has no linear layer, a name is none's, a batch is something else, or no layer was called.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    if not linear:
        raise Error(f"model: {type(model).__name__} has no torch.nn.Linear; calibrate it before its layers are packed")
    unknown = [name for name in layers or [] if name not in linear]
    if unknown:
        raise Error(
            f"layers: {unknown[0]!r} is no torch.nn.Linear of {type(model).__name__}; allowed: "
            f"{', '.join(list(linear)[:_EXAMPLES])}, ..."
        )
    statistics: dict[str, InputStatistics] = {}

    def watch(name: str) -> Any:
        def add(module: torch.nn.Linear, arguments: tuple[torch.Tensor, ...]) -> None:
            if name not in statistics:
                k = module.in_features
                zeros = torch.zeros(k, dtype=torch.float64)
                hessian = torch.zeros(k, k, device=module.weight.device) if hessians else None
                statistics[name] = InputStatistics(0, zeros, zeros.clone(), hessian)
            statistics[name]._add(arguments[0])

        return add

    device = next(model.parameters()).device
    training = {module: module.training for module in model.modules()}
    wanted = dict.fromkeys(linear if layers is None else layers)
    hooks = [linear[name].register_forward_pre_hook(watch(name)) for name in wanted]
    model.eval()
    try:
        with torch.no_grad():
            for batch in [batches] if isinstance(batches, (torch.Tensor, Mapping)) else batches:
                _call(model, batch, device)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    if not statistics:
        raise Error("batches: no linear layer was called; give token numbers [sequences, length]")
    return statistics


def product_energy(matrix: torch.Tensor, hessian: torch.Tensor) -> float:
    """trace(M H M^T): the sum of the squares of M x over the tokens x whose Hessian, the sum of x x^T, is given.

    matrix: [N, K], on the device where this is computed. hessian: [K, K], in whose type.
    """
    matrix = matrix.to(hessian.dtype)
    hessian = hessian.to(matrix.device)
    return float(((matrix @ hessian) * matrix).sum(dtype=torch.float64))


def _call(model: torch.nn.Module, batch: Any, device: torch.device) -> None:
    if isinstance(batch, torch.Tensor):
        model(batch.to(device))
    elif isinstance(batch, Mapping):
        model(**{name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()})
    else:
        raise Error(
            f"batches: {type(batch).__name__} is not allowed; allowed: tensors of token numbers [sequences, length], "
            "or dicts of keyword arguments"
        )
