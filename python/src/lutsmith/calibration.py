"""What the linear layers of a model see when it reads some text: the statistics that quantizers weigh errors by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["InputStatistics", "calibrate"]


@dataclass
class InputStatistics:
    """Of the inputs x of a linear layer [N, K], over all tokens that it saw.

    Attributes:
        tokens: how many.
        mean_absolute: [K], float64, the mean of abs(x).
        mean_square: [K], float64, the mean of x**2: what `lutsmith.quantize` takes as importance.
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
    batches: torch.Tensor | Iterable[Any],
    layers: Sequence[str] | None = None,
    hessians: bool = False,
) -> dict[str, InputStatistics]:
    """Runs a model, and collects what its linear layers get.

    Args:
        model: is called without gradients, in evaluation mode, and left as it was.
        batches: token numbers [sequences, length], or several such; each is moved to the model's device and is the
            only argument of a call. Or dicts: of keyword arguments.
        layers: names of modules; all `torch.nn.Linear` by default.
        hessians: whether x x^T is summed as well: 4 * K**2 bytes for each layer, so give `layers` for large models.

    Returns:
        For each layer its statistics, by name. Layers that were not called are left out.

    Raises:
        Error: where a name is no linear layer's, or no layer was called.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    unknown = [name for name in layers or [] if name not in linear]
    if unknown:
        raise Error(
            f"layers: {unknown[0]!r} is no torch.nn.Linear of {type(model).__name__}; allowed: "
            f"{', '.join(list(linear)[:4])}, ..."
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

    hooks = [linear[name].register_forward_pre_hook(watch(name)) for name in layers or linear]
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            for batch in [batches] if isinstance(batches, torch.Tensor) else batches:
                if isinstance(batch, torch.Tensor):
                    model(batch.to(device))
                else:
                    model(**{name: value.to(device) for name, value in batch.items()})
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    if not statistics:
        raise Error("batches: no linear layer was called; give token numbers [sequences, length]")
    return statistics
