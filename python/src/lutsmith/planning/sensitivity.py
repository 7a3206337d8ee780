"""How much a model loses by the quantization of each layer alone, measured once.

Losses of layers are added up: the linearity theorem of Malinovskii et al., Pushing the Limits of Large Language Model
Quantization via the Linearity Theorem (HIGGS), 2024, section 3. It goes on to predict a layer's loss by one coefficient
times the squared error of its weights. Plans by that have lost up to three times as much as by losses that were measured
for every option (docs/quantizers.md), so these are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.calibration import calibrate, calls_of, evaluation_mode
from lutsmith.evaluation.size import packed_bytes
from lutsmith.learning.losses import Call, logits_of, loss_of
from lutsmith.model_layers import packable_layers
from lutsmith.packed_weight import Group, planned_format, quantize

__all__ = ["LayerSensitivity", "Sensitivity", "measure"]

_VERSION = 1
_PROBES = ("widths", "each")
_ABOVE_NOTHING = 1e-12  # relative errors below are none


@dataclass(frozen=True)
class LayerSensitivity:
    """Attributes:
    n, k: of the weight.
    divergences: nats a token, of the model with only this layer quantized, by (bits, group); of options that were
        measured.
    errors: by (bits, group): squared error of the weights over their squares, each column counted as often as the mean
        square of its input says.
    probe: the bits and group that `divergence` is of.
    """

    n: int
    k: int
    divergences: dict[tuple[int, Group], float]
    errors: dict[tuple[int, Group], float]

    def loss(self, bits: int, group: Group) -> float:
        """Nats a token; of an option that was not measured, as its error is to that of one that was, of the same bits."""
        if (bits, group) in self.divergences:
            return self.divergences[bits, group]
        probe = min(self.divergences, key=lambda option: abs(option[0] - bits))
        error = self.errors[probe]
        return self.divergences[probe] * self.errors[bits, group] / error if error > _ABOVE_NOTHING else 0.0

    def size(self, bits: int, group: Group) -> int:
        """Bytes: codes, scales, padding and table."""
        return packed_bytes(planned_format(self.n, self.k, "lloyd", bits, group, None, torch.float16).line)


@dataclass(frozen=True)
class Sensitivity:
    """Of a model's layers, by name, for one method and one way of choosing scales."""

    method: str
    scales: str | None
    tokens: int
    layers: dict[str, LayerSensitivity]

    @property
    def options(self) -> list[tuple[int, Group]]:
        """(bits, group), the same for all layers."""
        return list(next(iter(self.layers.values())).errors)

    @property
    def weights(self) -> int:
        return sum(each.n * each.k for each in self.layers.values())

    def document(self) -> dict[str, Any]:
        """For JSON."""
        layers = {
            name: {
                "n": each.n,
                "k": each.k,
                "divergences": {_written(option): loss for option, loss in each.divergences.items()},
                "errors": {_written(option): error for option, error in each.errors.items()},
            }
            for name, each in self.layers.items()
        }
        about = {"version": _VERSION, "method": self.method, "scales": self.scales, "tokens": self.tokens}
        return {**about, "layers": layers}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Sensitivity:
        """Raises Error for what `document` did not give."""
        try:
            if document["version"] != _VERSION:
                raise Error(f"sensitivity: version {document['version']} is not allowed; allowed: {_VERSION}")
            layers = {
                name: LayerSensitivity(
                    each["n"],
                    each["k"],
                    {_read(option): loss for option, loss in each["divergences"].items()},
                    {_read(option): error for option, error in each["errors"].items()},
                )
                for name, each in document["layers"].items()
            }
            return cls(document["method"], document["scales"], document["tokens"], layers)
        except (KeyError, TypeError, ValueError, AttributeError) as wrong:
            raise Error(f"sensitivity: no measurement of lutsmith.planning ({wrong!r}); measure again") from wrong


@torch.no_grad()
def measure(
    model: torch.nn.Module,
    batches: torch.Tensor | Mapping[str, Any] | Iterable[Any],
    bits: Sequence[int] = (2, 3, 4),
    groups: Sequence[Group] = (32, 64, 128),
    method: str = "nf",
    scales: str | None = None,
    probes: str = "each",
    layers: Sequence[str] | None = None,
    file: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Sensitivity:
    """Runs the model with one layer quantized at a time, for each layer and option.

    Args:
        model: as for `lutsmith.calibrate`; left as it was. Its logits of all batches are kept in memory.
        batches: as for `lutsmith.calibrate`. A few hundred tokens tell layers apart.
        bits, groups: every pair is an option of every layer.
        method, scales: as for `lutsmith.quantize`, of all options.
        probes: what is measured: "each": every option; or "widths": each number of bits in the middle one of `groups`,
            by whose error the others' are predicted: as many times less work as there are groups, and worse plans.
        layers: names; by default those that LutsmithConfig packs.
        file: written after each layer, and continued from where it exists.
        progress: is told name, index and number of layers.

    Raises:
        Error: as `lutsmith.calibrate` and `lutsmith.quantize`; for a file of other layers, options or tokens.
    """
    options = [(width, group) for width in bits for group in groups]
    if not options:
        raise Error("bits, groups: no option; give at least one of each")
    if probes not in _PROBES:
        raise Error(f"probes: {probes!r} is not known; allowed: {', '.join(_PROBES)}")
    probed = options if probes == "each" else [(width, groups[len(groups) // 2]) for width in bits]
    chosen = packable_layers(model, layers)
    batches = batches if isinstance(batches, (torch.Tensor, Mapping)) else list(batches)
    calls = list(calls_of(model, batches))
    statistics = calibrate(model, batches, list(chosen))
    settings = {"method": method, "scales": scales}
    place = None if file is None else Path(file)
    tokens = sum(loss_count(call) for call in calls)
    found = _kept(place, Sensitivity(method, scales, tokens, {}), list(chosen), options, probed)
    with evaluation_mode(model):
        expected = [logits_of(model, call) for call in calls] if len(found) < len(chosen) else []
        for index, (name, layer) in enumerate(chosen.items()):
            if progress is not None:
                progress(name, index, len(chosen))
            if name in found:
                continue
            if name not in statistics:
                raise Error(f"layers: {name} was not called by any batch; leave it out, or give batches that call it")
            importance = statistics[name].mean_square.float().to(layer.weight.device)
            errors, divergences = {}, {}
            given = layer.weight.data
            for option in options:
                packed = quantize(given, bits=option[0], group=option[1], **settings)
                weight = packed.dequantize(torch.float32)
                errors[option] = _error(given, weight, importance)
                if option in probed:
                    layer.weight.data = weight.to(given.dtype)
                    try:
                        divergences[option] = _divergence(model, calls, expected)
                    finally:
                        layer.weight.data = given
            found[name] = LayerSensitivity(*given.shape, divergences, errors)
            if place is not None:
                _write(place, Sensitivity(method, scales, tokens, found))
    return Sensitivity(method, scales, tokens, {name: found[name] for name in chosen})


def loss_count(call: Call) -> int:
    """Tokens of a call."""
    arguments, named = call
    return (arguments[0] if arguments else named["input_ids"]).numel()


def _error(given: torch.Tensor, weight: torch.Tensor, importance: torch.Tensor) -> float:
    given = given.float()
    energy = float((given.square() * importance).sum(dtype=torch.float64))
    lost = float(((given - weight).square() * importance).sum(dtype=torch.float64))
    return lost / energy if energy > 0 else 0.0


def _divergence(model: torch.nn.Module, calls: list[Call], expected: list[torch.Tensor]) -> float:
    total, count = 0.0, 0
    for call, logits in zip(calls, expected, strict=True):
        loss, scored = loss_of(logits_of(model, call), call, logits)
        total, count = total + float(loss), count + scored
    return max(total / max(count, 1), 0.0)  # below by rounding only


def _kept(
    file: Path | None,
    about: Sensitivity,
    names: list[str],
    options: list[tuple[int, Group]],
    probed: list[tuple[int, Group]],
) -> dict[str, LayerSensitivity]:
    """Layers that a file has already."""
    if file is None or not file.exists():
        return {}
    try:
        kept = Sensitivity.of_document(json.loads(file.read_text()))
    except (OSError, ValueError) as failed:
        raise Error(f"{file}: cannot be read: {failed}; remove it to measure anew") from failed
    same = (kept.method, kept.scales, kept.tokens) == (about.method, about.scales, about.tokens)
    alike = all(list(each.errors) == options and list(each.divergences) == probed for each in kept.layers.values())
    if not same or not alike or not set(kept.layers) <= set(names):
        raise Error(f"{file}: of other layers, options or tokens; name another file, or remove it to measure anew")
    return dict(kept.layers)


def _write(file: Path, sensitivity: Sensitivity) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_text(json.dumps(sensitivity.document()) + "\n")
    os.replace(part, file)


def _written(option: tuple[int, Group]) -> str:
    return f"{option[0]}/{option[1]}"


def _read(option: str) -> tuple[int, Group]:
    bits, group = option.split("/")
    return int(bits), int(group) if group.isdigit() else group
