"""All of a foreign checkpoint, and what became of it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from lutsmith._torch import torch
from lutsmith.checkpoints.layers import Loss, pack
from lutsmith.checkpoints.reading import Item, items, open_checkpoint
from lutsmith.packed_weight import PackedWeight
from lutsmith.reordered import ReorderedWeight

__all__ = ["Checkpoint", "Report", "load", "stream"]


class Report:
    """What became of every tensor; as text a line for each kind.

    losses: one for each tensor, in their order.
    """

    def __init__(self, losses: Iterable[Loss] = ()) -> None:
        self.losses: list[Loss] = list(losses)

    @property
    def relative_error(self) -> float:
        """Of all quantized matrices together: ||packed - stored|| / ||stored||; 0 where all are exact."""
        return _together(self.losses)

    def __str__(self) -> str:
        kinds: dict[tuple[str, str], list[Loss]] = {}
        for loss in self.losses:
            kinds.setdefault((loss.how, loss.format), []).append(loss)
        lines = []
        for (how, format), losses in sorted(kinds.items()):
            line = f"{len(losses)} {format or 'tensors'}: {how}"
            if how in ("rounded", "requantized"):
                worst = max(losses, key=lambda loss: loss.relative_error)
                line += f", error {_together(losses):.2e}, of {worst.name} {worst.relative_error:.2e}"
                line += f"; largest difference of a weight {max(loss.largest for loss in losses):.2e}"
            reasons = sorted({loss.note for loss in losses if loss.note})
            lines.append(line + "".join(f"\n    {reason}" for reason in reasons[:3]))
        lines.append(f"error of all quantized matrices: {self.relative_error:.2e}")
        return "\n".join(lines)


def _together(losses: Iterable[Loss]) -> float:
    losses = list(losses)
    weights = sum(loss.weights for loss in losses)
    return math.sqrt(sum(loss.error for loss in losses) / weights) if weights else 0.0


class Checkpoint(dict[str, Any]):
    """{name: PackedWeight or ReorderedWeight, or a tensor of what is not quantized}.

    report: what carrying each over cost.
    """

    report: Report


def load(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    requantize: bool | Mapping[str, Any] = False,
    progress: bool = True,
) -> Checkpoint:
    """The matrices of a checkpoint of another library with the codes, tables, scales and offsets that they have there.

    Args:
        path: a file (safetensors, GGUF) or a folder with one model: bitsandbytes 4-bit, GPTQ, AWQ, compressed-tensors,
            MXFP4, FLUTE, HIGGS, GGUF. docs/checkpoints.md has what is exact of each.
        dtype: torch.float16 or torch.bfloat16: of x, y and the scales. None: for each matrix the type that holds it
            exactly, and of those that none does the type that its library computes in.
        requantize: whether matrices whose codes no kernel multiplies are quantized again, from what they stand for; a
            dictionary has arguments of :func:`lutsmith.quantize`. By default {"method": "nf", "bits": 4, "group": 64},
            and of NVFP4 {"method": "fp", "bits": 4, "group": 32, "scales": "mse"}.
        progress: shows one line on standard error while it works.

    Returns:
        The matrices under the names that they have in a model that is not quantized, those of a stack as NAME.0,
        NAME.1, ...; other tensors as they are. All on the CPU. Matrices whose columns act-order spread are
        :class:`lutsmith.reordered.ReorderedWeight`, which `lutsmith.matmul` and `lutsmith.nn.Linear` take as well.

    Raises:
        Error: for what is no such checkpoint, and for the first matrix that cannot be carried over; the text says why
            and what to do.
    """
    checkpoint = Checkpoint()
    checkpoint.report = Report()
    for name, value, loss in stream(path, dtype=dtype, requantize=requantize, progress=progress):
        checkpoint[name] = value
        checkpoint.report.losses.append(loss)
    return checkpoint


def stream(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    requantize: bool | Mapping[str, Any] = False,
    progress: bool = True,
) -> Iterator[tuple[str, PackedWeight | ReorderedWeight | torch.Tensor, Loss]]:
    """What `load` gives, with its arguments and errors, one after the other; no more than one is in memory.

    Yields: (name, matrix or tensor, what became of it).
    """
    found = items(open_checkpoint(path))
    with Line(len(found), progress) as line:
        for item in found:
            line.show(item.name)
            value, loss = converted(item, dtype, requantize)
            line.done(loss)
            yield item.name, value, loss


def converted(
    item: Item, dtype: torch.dtype | None, requantize: bool | Mapping[str, Any]
) -> tuple[PackedWeight | ReorderedWeight | torch.Tensor, Loss]:
    if item.layer is not None:
        return pack(item.layer, dtype, requantize)
    tensor = item.tensor()
    return tensor, Loss(item.name, str(tensor.dtype).removeprefix("torch."), "kept")


class Line:
    """One line that is written over and over on a terminal; elsewhere only its end."""

    def __init__(self, count: int, wanted: bool, file: TextIO | None = None) -> None:
        self._count, self._wanted, self._file = count, wanted, file or sys.stderr
        self._report = Report()
        self._width = 0

    def show(self, name: str) -> None:
        if self._wanted and self._file.isatty():
            self._write(f"lutsmith: {len(self._report.losses)} of {self._count} tensors, {name}", "")

    def done(self, loss: Loss) -> None:
        self._report.losses.append(loss)

    def _write(self, text: str, end: str) -> None:
        start = "\r" if self._file.isatty() else ""
        self._file.write(f"{start}{text.ljust(self._width)}{end}")
        self._file.flush()
        self._width = len(text)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, kind: Any, *failed: object) -> None:
        if not self._wanted or (kind is not None and not self._file.isatty()):
            return
        done = len(self._report.losses)
        text = f"lutsmith: {done} of {self._count} tensors, error {self._report.relative_error:.2e}"
        self._write(text, "\n")
