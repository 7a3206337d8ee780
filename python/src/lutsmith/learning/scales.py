"""The descent: which calls, how often the result is checked, what is kept."""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.calibration import calls_of, evaluation_mode
from lutsmith.learning.layer import RescaledLinear
from lutsmith.learning.losses import Call, blocks_recomputed, logits_of, loss_of
from lutsmith.learning.progress_file import ProgressFile
from lutsmith.model_layers import packable_layers
from lutsmith.packed_weight import Group, PackedWeight, quantize

__all__ = ["Check", "LearnedScales", "Step", "learn_scales"]

Batches = torch.Tensor | Mapping[str, Any] | Iterable[Any]
_OBJECTIVES = ("tokens", "divergence")


@dataclass(frozen=True)
class Check:
    """Loss in nats a token after `steps` of the descent, on what judges; `training`: mean of the steps before it."""

    steps: int
    loss: float
    training: float


@dataclass(frozen=True)
class Step:
    """What `progress` is told: done of `steps`, the loss of the call, and the check that followed, if one did."""

    done: int
    steps: int
    loss: float
    check: Check | None


@dataclass(frozen=True)
class LearnedScales:
    """What `learn_scales` made.

    Attributes:
        packed: of each layer, by name: the best of all checks.
        checks: the first is of the start.
        best: of the checks; never worse than the first.
        held_out: whether tokens that were not learned from judged.
    """

    packed: dict[str, PackedWeight]
    checks: list[Check]
    best: Check
    held_out: bool

    def put_into(self, model: Any) -> Any:
        """`lutsmith.packed_models.put_packed` of them into a model of transformers: changed in place, and returned."""
        from lutsmith.packed_models import put_packed

        return put_packed(model, self.packed, method="nfl")


def learn_scales(
    model: torch.nn.Module,
    batches: Batches,
    method: str = "nf",
    bits: int = 4,
    group: Group = 64,
    table: Sequence[float] | torch.Tensor | None = None,
    scales: str | None = None,
    start: Mapping[str, PackedWeight] | None = None,
    learn_table: bool = False,
    objective: str = "tokens",
    epochs: int = 1,
    learning_rate: float = 1e-3,
    held_out: Batches | None = None,
    check_every: int | None = None,
    seed: int = 0,
    recompute: bool = False,
    resume: str | os.PathLike[str] | None = None,
    progress: Callable[[Step], None] | None = None,
) -> LearnedScales:
    """Learns the scales of a model's linear layers, each group's, from tokens; the model is left as it was.

    Each step takes one batch; Adam (Kingma and Ba, 2014) with a rate that falls to zero in a straight line. Codes are
    the nearest entries for the scales of the moment. Scales and tables count as 16 bits hold them, so what is measured
    is what is packed. The same arguments give the same result (on a GPU as far as its products are repeatable).

    Args:
        model: called with each batch; gives logits, or has them as `logits`. Any type; bfloat16 on a GPU.
        batches: as for `lutsmith.calibrate`: token numbers [sequences, length], or dicts with `input_ids`; several of
            them, as a step takes one.
        method, bits, group, table, scales: as for `lutsmith.quantize`: the start, of all layers but the output head.
        start: packed weights to start from instead, by layers' names: those with importance, with learned tables or of
            a plan of mixed widths. Other layers then stay as they are.
        learn_table: whether each layer's table is learned as well. The paper gained nothing by it.
        objective: "tokens": the loss of the next token. "divergence": KL(model as given || quantized), which holds to
            the model instead of the text, and takes one more forward pass.
        epochs: how often each batch is seen, in an order that `seed` chooses.
        learning_rate: of a scale, as part of what it was at the start: the most that Adam moves it in a step, about.
        held_out: other batches that judge which check is the best. Without, the batches themselves do, and what looks
            better may be learned by heart.
        check_every: steps between checks; by default one check after each epoch. There is one after the last, too.
        recompute: runs decoder layers twice instead of keeping their activations.
        resume: a file that is written at each check, and continued from where it exists.
        progress: is told of each step.

    Returns:
        Packed weights of the best check. Its loss is never above that of the start.

    Raises:
        Error: for arguments that are not allowed, a loss that is no number, and a file of another run.
    """
    _check_arguments(objective, epochs, learning_rate, check_every)
    calls = _calls(model, batches, "batches")
    judges = calls if held_out is None else _calls(model, held_out, "held_out")
    layers = packable_layers(model, None if start is None else list(start))
    if start is None:
        settings = {"method": method, "bits": bits, "group": group, "table": table, "scales": scales}
        start = {name: quantize(layer.weight.detach(), **settings) for name, layer in layers.items()}
    _check_start(layers, start)
    with ExitStack() as stack:
        rescaled = stack.enter_context(_rescaled(model, layers, start, learn_table))
        if recompute:
            stack.enter_context(blocks_recomputed(model))
        descent = _Descent(model, rescaled, objective)
        steps = epochs * len(calls)
        identity = _identity(start, [calls, judges], [objective, epochs, learning_rate, check_every, seed, learn_table])
        file = None if resume is None else ProgressFile(Path(resume), identity)
        descent.begin(judges, learning_rate, file)
        while descent.done < steps:
            epoch, index = divmod(descent.done, len(calls))
            order = torch.randperm(len(calls), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
            loss = descent.step(calls[order[index]], learning_rate * (1 - descent.done / steps))
            check = None
            if descent.done % (check_every or len(calls)) == 0 or descent.done == steps:
                check = descent.check(judges)
                if file is not None:
                    file.write(descent.state())
            if progress is not None:
                progress(Step(descent.done, steps, loss, check))
        best = descent.take_best()
        packed = {name: layer.packed() for name, layer in rescaled.items()}
    return LearnedScales(packed, descent.checks, best, held_out is not None)


class _Descent:
    """A run: parameters, what has been found so far, and the best of it."""

    def __init__(self, model: torch.nn.Module, layers: dict[str, RescaledLinear], objective: str) -> None:
        self._model = model
        self._layers = layers
        self._divergence = objective == "divergence"
        self._parameters = [each for layer in layers.values() for each in layer.parameters()]
        self._adam = torch.optim.Adam(self._parameters)
        self._since: list[float] = []  # losses of the steps since the last check
        self.checks: list[Check] = []
        self._best: tuple[Check, list[torch.Tensor]]
        self.done = 0

    def begin(self, judges: list[Call], learning_rate: float, file: ProgressFile | None) -> None:
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        state = None if file is None else file.read()
        if state is None:
            self._best = (Check(0, math.inf, math.nan), [])
            self.check(judges)
            return
        self.done = state["done"]
        self.checks = [Check(*each) for each in state["checks"]]
        self._best = (Check(*state["best"]), [each.to(p) for each, p in zip(state["best_values"], self._parameters)])
        self._adam.load_state_dict(state["adam"])
        self._set(state["values"])

    def step(self, call: Call, learning_rate: float) -> float:
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.zero_grad(set_to_none=True)
        loss, count = self._loss(call)
        mean = loss / max(count, 1)
        mean.backward()
        value = float(mean)
        if not math.isfinite(value):
            raise Error(
                f"loss: {value} at step {self.done + 1}; give a lower learning_rate, or a model in bfloat16 or float32"
            )
        self._adam.step()
        self.done += 1
        self._since.append(value)
        return value

    @torch.no_grad()
    def check(self, judges: list[Call]) -> Check:
        total, count = 0.0, 0
        for call in judges:
            loss, scored = self._loss(call)
            total, count = total + float(loss), count + scored
        training = sum(self._since) / len(self._since) if self._since else math.nan
        found = Check(self.done, total / max(count, 1), training)
        if not self.checks and not math.isfinite(found.loss):
            raise Error(f"loss: {found.loss} at the start; give a model in bfloat16 or float32")
        self.checks.append(found)
        self._since = []
        if found.loss < self._best[0].loss:
            self._best = (found, [each.detach().clone() for each in self._parameters])
        return found

    def take_best(self) -> Check:
        check, values = self._best
        self._set(values)
        return check

    def state(self) -> dict[str, Any]:
        best, best_values = self._best
        return {
            "done": self.done,
            "checks": [(each.steps, each.loss, each.training) for each in self.checks],
            "best": (best.steps, best.loss, best.training),
            "best_values": best_values,
            "values": [each.detach() for each in self._parameters],
            "adam": self._adam.state_dict(),
        }

    def _loss(self, call: Call) -> tuple[torch.Tensor, int]:
        expected = None
        if self._divergence:
            with torch.no_grad():
                self._quantized(False)
                expected = logits_of(self._model, call)
                self._quantized(True)
        return loss_of(logits_of(self._model, call), call, expected)

    def _quantized(self, quantized: bool) -> None:
        for layer in self._layers.values():
            layer.quantized = quantized

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)


def _check_arguments(objective: str, epochs: int, learning_rate: float, check_every: int | None) -> None:
    if objective not in _OBJECTIVES:
        raise Error(f"objective: {objective!r} is not known; allowed: {', '.join(_OBJECTIVES)}")
    for name, value in (("epochs", epochs), ("check_every", check_every)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise Error(f"{name}: {value!r} is not allowed; allowed: at least 1")
    if not 0 < learning_rate < 1:
        raise Error(f"learning_rate: {learning_rate} is not allowed; allowed: above 0 and below 1, such as 0.001")


def _check_start(layers: dict[str, torch.nn.Linear], start: Mapping[str, PackedWeight]) -> None:
    for name, layer in layers.items():
        packed = start[name]
        one_table = formats.known(packed.format).table_kind == "scalar" and not packed.segments
        if packed.shape != tuple(layer.weight.shape) or not one_table:
            raise Error(
                f"start: {name}: {packed!r} is not allowed; allowed: {list(layer.weight.shape)}, with one table of single "
                "values for all rows"
            )


def _calls(model: torch.nn.Module, batches: Batches, name: str) -> list[Call]:
    calls = list(calls_of(model, batches))
    for arguments, named in calls:
        tokens = arguments[0] if arguments else named.get("input_ids")
        if not isinstance(tokens, torch.Tensor) or tokens.dim() != 2 or tokens.shape[1] < 2:
            given = list(tokens.shape) if isinstance(tokens, torch.Tensor) else type(tokens).__name__
            raise Error(f"{name}: {given} is not allowed; allowed: token numbers [sequences, length], 2 long at least")
    if not calls:
        raise Error(f"{name}: none; give token numbers [sequences, length]")
    return calls


@contextmanager
def _rescaled(
    model: torch.nn.Module,
    layers: dict[str, torch.nn.Linear],
    start: Mapping[str, PackedWeight],
    learn_table: bool,
) -> Iterator[dict[str, RescaledLinear]]:
    """With layers that can be learned in their places, nothing else having gradients; afterwards as it was."""
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    made = {name: RescaledLinear(layer, start[name], learn_table) for name, layer in layers.items()}
    with evaluation_mode(model):
        try:
            for parameter in wanted:
                parameter.requires_grad_(False)
            for name, layer in made.items():
                model.set_submodule(name, layer.eval())
            yield made
        finally:
            for name, linear in layers.items():
                model.set_submodule(name, linear)
            for parameter, wants in wanted.items():
                parameter.requires_grad_(wants)


def _identity(start: Mapping[str, PackedWeight], calls: list[list[Call]], settings: list[Any]) -> str:
    """Of a run: what must be the same for one to go on where another ended."""
    found = hashlib.sha256(repr(settings).encode())
    for name, packed in start.items():
        found.update(f"{name} {packed.format} ".encode())
        data = packed.data.cpu()
        found.update(ctypes.string_at(data.data_ptr(), data.numel()))
    for arguments, named in (call for some in calls for call in some):
        for tokens in (*arguments, *(value for value in named.values() if isinstance(value, torch.Tensor))):
            found.update(repr(tokens.tolist()).encode())
    return found.hexdigest()
