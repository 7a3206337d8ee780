"""Scaling input channels before quantization, so that those with large activations lose less.

Lin et al., AWQ: Activation-aware Weight Quantization, 2023, section 3.2: columns of a layer's weight are multiplied by
s = mean(abs(x))**t, and what makes x is divided by s, so that the 16-bit model stays the same while the rounding of the
columns that matter shrinks. t is searched for each group of layers that share an input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.calibration import InputStatistics, block_by_block, product_energy
from lutsmith.packed_weight import Group, quantize

__all__ = ["Folding", "scale_channels"]

_STEPS = 20  # exponents 0, 1/20, ..., 1: the paper's grid


@dataclass(frozen=True)
class Folding:
    """What was done to layers that share an input.

    Attributes:
        layers: their names.
        exponent: t; 0 where nothing was scaled.
        error: squared error of their quantized products over the square of the products, on the calibration's tokens.
        error_before: the same with exponent 0.
    """

    layers: tuple[str, ...]
    exponent: float
    error: float
    error_before: float


@dataclass
class _Site:
    """Layers that share an input, and what makes it."""

    layers: dict[str, torch.nn.Linear]
    source: torch.nn.Module  # a norm, or the linear layer whose rows are the channels
    heads_per_source: int = 1  # query heads that read one head of keys and values
    head: int = 1  # channels of a head

    def shared(self, channels: torch.Tensor) -> torch.Tensor:
        """The mean over the channels that one row of the source makes."""
        return channels.reshape(-1, self.heads_per_source, self.head).mean(1).flatten()

    def spread(self, rows: torch.Tensor) -> torch.Tensor:
        """The inverse: of each channel what its row has."""
        by_head = rows.reshape(-1, 1, self.head)
        return by_head.expand(-1, self.heads_per_source, -1).flatten()


@torch.no_grad()
def scale_channels(
    model: torch.nn.Module,
    batches: torch.Tensor | Mapping[str, Any] | Iterable[Any],
    method: str = "nf",
    bits: int = 4,
    group: Group = 64,
    table: Sequence[float] | torch.Tensor | None = None,
    scales: str | None = None,
) -> list[Folding]:
    """Scales the channels of a model's linear layers for quantization with these settings. Changes the model in place.

    Args:
        model: of transformers, in 16 or 32 bits, made of decoder layers with the modules that Llama, Mistral, Qwen and
            Gemma have: `self_attn` with `q_proj`, `k_proj`, `v_proj`, `o_proj` and `mlp` with `gate_proj`, `up_proj`,
            `down_proj`, between norms without a bias.
        batches: as for `lutsmith.calibrate`. Every decoder layer is run three times on all of them, whose hidden states
            are kept on the model's device.
        method, bits, group, table, scales: as for `lutsmith.quantize`, by which the model is quantized next.

    Returns:
        What was done. Outputs of the model stay the same but for rounding; quantized with the settings, no layer's
        products are worse on the tokens given than without.

    Raises:
        Error: where the model has no such decoder layers.
    """
    done = []
    settings = {"method": method, "bits": bits, "group": group, "table": table, "scales": scales}
    names = {module: name for name, module in model.named_modules()}
    # Every layer whose input has a site, with the site and those of its block that are found with it.
    sites: dict[str, list[_Site]] = {}
    for block in model.modules():
        if hasattr(block, "self_attn") and hasattr(block, "mlp"):
            of_block = list(_sites(block, names))
            sites.update({next(iter(site.layers)): of_block for site in of_block})
    if sites:
        seen: dict[str, InputStatistics] = {}
        for name, _, statistics in block_by_block(model, batches, hessians=True):
            if name not in sites:
                continue
            seen[name] = statistics
            firsts = [next(iter(site.layers)) for site in sites[name]]
            if all(first in seen for first in firsts):  # all of the block: the next one is to see it scaled
                for site, first in zip(sites[name], firsts, strict=True):
                    found = seen.pop(first)
                    done.append(_scale(site, found.mean_absolute, found.hessian, settings))
    if not done:
        raise Error(
            f"model: {type(model).__name__} has no decoder layers as Llama, Mistral, Qwen and Gemma have them: "
            "modules self_attn with q_proj, k_proj, v_proj, o_proj and mlp with gate_proj, up_proj, down_proj"
        )
    return done


def _sites(block: Any, names: dict[torch.nn.Module, str]) -> Iterator[_Site]:
    attention, mlp = block.self_attn, block.mlp

    def linear(owner: Any, *which: str) -> dict[str, torch.nn.Linear]:
        found = [getattr(owner, name, None) for name in which]
        return {names[each]: each for each in found} if all(type(each) is torch.nn.Linear for each in found) else {}

    # Gemma 2 and 3 have a norm behind attention too; the one before the MLP is another.
    before_mlp = getattr(block, "pre_feedforward_layernorm", None) or getattr(block, "post_attention_layernorm", None)
    queries, outputs = linear(attention, "q_proj", "k_proj", "v_proj"), linear(attention, "o_proj")
    # First those whose source is a linear layer: that changes rows of its weight, which then are searched as they stay.
    # A norm of values would undo what their rows are divided by.
    if queries and outputs and getattr(attention, "head_dim", None) and not hasattr(attention, "v_norm"):
        heads, rest = divmod(attention.o_proj.in_features, attention.v_proj.out_features)
        if rest == 0:
            yield _Site(outputs, attention.v_proj, heads, attention.head_dim)
    if queries and _is_norm(getattr(block, "input_layernorm", None)):
        yield _Site(queries, block.input_layernorm)
    gates, downs = linear(mlp, "gate_proj", "up_proj"), linear(mlp, "down_proj")
    if gates and downs:
        yield _Site(downs, mlp.up_proj)
    if gates and _is_norm(before_mlp):
        yield _Site(gates, before_mlp)


def _is_norm(module: Any) -> bool:
    return getattr(module, "weight", None) is not None and getattr(module, "bias", None) is None


def _scale(site: _Site, mean_absolute: torch.Tensor, hessian: torch.Tensor, settings: dict[str, Any]) -> Folding:
    device = next(iter(site.layers.values())).weight.device
    size = site.shared(mean_absolute.to(device=device, dtype=torch.float32))
    best = (float("inf"), 0.0, torch.ones_like(size))
    before = 0.0
    energy = sum(product_energy(layer.weight.float(), hessian) for layer in site.layers.values())
    for step in range(_STEPS + 1):
        exponent = step / _STEPS
        factors = size.clamp(min=1e-4 * float(size.max()) or 1.0) ** exponent
        factors = factors / (factors.max() * factors.min()).sqrt()
        error = _lost(site, site.spread(factors), hessian, settings) / energy if energy > 0 else 0.0
        if step == 0:
            before = error
        if error < best[0]:
            best = (error, exponent, factors)
    error, exponent, factors = best
    if exponent > 0:
        for layer in site.layers.values():
            layer.weight.copy_(layer.weight.float() * site.spread(factors))
        _divide(site.source, factors)
    return Folding(tuple(site.layers), exponent, error, before)


def _lost(site: _Site, factors: torch.Tensor, hessian: torch.Tensor, settings: dict[str, Any]) -> float:
    """The squared error of all products with the site's layers together."""
    lost = 0.0
    for layer in site.layers.values():
        weight = layer.weight.float()
        packed = quantize((weight * factors).to(layer.weight.dtype), **settings)
        difference = packed.dequantize(torch.float32) / factors - weight
        lost += product_energy(difference, hessian)
    return lost


def _divide(source: torch.nn.Module, factors: torch.Tensor) -> None:
    """Makes what comes out of the source so much smaller, channel by channel."""
    if isinstance(source, torch.nn.Linear):
        source.weight.copy_(source.weight.float() / factors.unsqueeze(1))
        if source.bias is not None:
            source.bias.copy_(source.bias.float() / factors)
        return
    # Gemma's norms multiply by 1 + weight: asked of the norm itself, which knows best.
    weight = source.weight
    ones = torch.ones(1, weight.numel(), dtype=weight.dtype, device=weight.device)
    of_zero = torch.func.functional_call(source, {"weight": torch.zeros_like(weight)}, (ones,))
    added = 1.0 if bool((of_zero != 0).any()) else 0.0
    weight.copy_((weight.float() + added) / factors - added)
