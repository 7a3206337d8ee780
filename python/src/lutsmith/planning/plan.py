"""Bits and groups of each layer, chosen; and what was known of them."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lutsmith._core import Error
from lutsmith.packed_weight import Group
from lutsmith.planning.choosing import Option, choose
from lutsmith.planning.sensitivity import Sensitivity

__all__ = ["Plan", "Uniform", "make_plan"]

_VERSION = 1
# Layers that `lutsmith.nn.fuse` makes one of, if they have the same bits and group.
_FUSED = re.compile(r"^(.*\.)?((?:q|k|v)_proj|(?:gate|up)_proj)$")


class Uniform(NamedTuple):
    """All layers alike."""

    bits: int
    group: Group
    bits_per_weight: float
    loss: float


@dataclass(frozen=True)
class Plan:
    """Attributes:
    modules: of each layer (bits, group).
    sensitivity: what sizes and losses are computed from.
    bound: nats a token; by the sensitivity no plan of this size loses less. None where somebody has edited the plan.
    size: bits a weight that were asked for; the same.
    """

    modules: dict[str, tuple[int, Group]]
    sensitivity: Sensitivity
    bound: float | None = None
    size: float | None = None

    @property
    def bits_per_weight(self) -> float:
        layers = self.sensitivity.layers
        total = sum(layers[name].size(*option) for name, option in self.modules.items())
        return 8 * total / self.sensitivity.weights

    @property
    def loss(self) -> float:
        """Predicted, nats a token."""
        return sum(self.sensitivity.layers[name].loss(*option) for name, option in self.modules.items())

    def uniform(self) -> list[Uniform]:
        """Every option, of all layers."""
        return [_uniform(self.sensitivity, *option) for option in self.sensitivity.options]

    def config(self, **others: Any) -> Any:
        """LutsmithConfig of the plan. others: what else it takes, such as fuse=True."""
        from lutsmith.transformers import LutsmithConfig

        (bits, group), _ = Counter(self.modules.values()).most_common(1)[0]
        apart = {name: {"bits": own[0], "group": own[1]} for name, own in self.modules.items() if own != (bits, group)}
        settings = {"method": self.sensitivity.method, "scales": self.sensitivity.scales}
        return LutsmithConfig(bits=bits, group=group, modules=apart or None, **settings, **others)

    def save(self, file: str | os.PathLike[str]) -> None:
        """As JSON, whose `modules` may be edited."""
        Path(file).write_text(json.dumps(self.document(), indent=1) + "\n")

    def document(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "size": self.size,
            "bits_per_weight": self.bits_per_weight,
            "loss": self.loss,
            "bound": self.bound,
            "modules": {name: {"bits": bits, "group": group} for name, (bits, group) in self.modules.items()},
            "sensitivity": self.sensitivity.document(),
        }

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Plan:
        """Raises Error for what is no plan, and for layers or options that were not measured."""
        try:
            document = json.loads(Path(file).read_text())
            if document["version"] != _VERSION:
                raise Error(f"{file}: a plan of version {document['version']} is not allowed; allowed: {_VERSION}")
            modules = {name: (each["bits"], each["group"]) for name, each in document["modules"].items()}
            sensitivity = Sensitivity.of_document(document["sensitivity"])
            plan = cls(modules, sensitivity, document["bound"], document["size"])
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise Error(f"{file}: no plan of `lutsmith plan` ({wrong!r})") from wrong
        missing = sorted(sensitivity.layers.keys() ^ modules.keys())
        if missing:
            raise Error(f"{file}: {missing[0]} is not in both modules and sensitivity; a plan has all layers")
        for name, option in modules.items():
            if option not in sensitivity.options:
                allowed = ", ".join(f"{bits}/{group}" for bits, group in sensitivity.options)
                raise Error(f"{file}: {name}: bits/group {option[0]}/{option[1]} was not measured; allowed: {allowed}")
        edited = (
            abs(plan.loss - document["loss"]) > 1e-9 or abs(plan.bits_per_weight - document["bits_per_weight"]) > 1e-9
        )
        return cls(modules, sensitivity) if edited else plan

    def markdown(self) -> str:
        """What was chosen, and what all layers alike would give."""
        rows, columns = grid(self.modules)
        lines = [
            f"{self.bits_per_weight:.3f} bits a weight, predicted loss {self.loss:.4f} nats a token"
            + (f"; no plan of {self.size:g} bits is below {self.bound:.4f}" if self.bound is not None else ""),
            "",
            "| all layers alike | bits a weight | predicted loss |",
            "|---|---|---|",
            *(
                f"| {each.bits} bits, group {each.group} | {each.bits_per_weight:.3f} | {each.loss:.4f} |"
                for each in sorted(self.uniform(), key=lambda each: each.bits_per_weight)
            ),
            "",
            f"| bits/group | {' | '.join(columns)} |",
            f"|{'---|' * (len(columns) + 1)}",
        ]
        for row, names in rows.items():
            cells = ["/".join(map(str, self.modules[names[column]])) if column in names else "" for column in columns]
            lines.append(f"| {row} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def make_plan(sensitivity: Sensitivity, size: float, together: bool = True) -> Plan:
    """Chooses the options of least predicted loss.

    Args:
        size: bits a weight of all layers, at most; scales, tables and padding counted.
        together: gives q, k and v, and gate and up, of a block the same bits and group, so that `lutsmith.nn.fuse` can
            make one launch of them.

    Returns:
        A plan that takes `size` at most. Its predicted loss is never above that of all layers alike in the same size.

    Raises:
        Error: where the smallest options take more.
    """
    items = list(_items(sensitivity.layers, together))
    options = sensitivity.options
    layers = sensitivity.layers
    priced = [
        [
            Option(sum(layers[name].size(*option) for name in names), sum(layers[name].loss(*option) for name in names))
            for option in options
        ]
        for names in items
    ]
    weights = sensitivity.weights
    # A size that was computed from bytes, such as all layers' alike, may have lost a part of one by rounding.
    budget = math.floor(size * weights / 8 + 1e-6)
    least = 8 * sum(min(option.size for option in each) for each in priced) / weights
    if budget < least * weights / 8 - 1e-6:
        raise Error(
            f"size: {size:g} bits a weight are not allowed; allowed: at least {least:.4g}, the smallest options"
        )
    alike = [[index] * len(items) for index in range(len(options))]
    chosen = choose(priced, budget, known=alike)
    picked = {name: options[pick] for names, pick in zip(items, chosen.picks, strict=True) for name in names}
    return Plan({name: picked[name] for name in layers}, sensitivity, chosen.bound, size)


def grid(names: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Layers as a table: rows by what stands before and at the block's number, columns by what follows.

    Returns: for each row the names by column; and the columns.
    """
    rows: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for name in names:
        found = re.match(r"^(.*?\.?\d+)\.(.*)$", name)
        row, column = (found[1], found[2]) if found else ("", name)
        rows.setdefault(row, {})[column] = name
        columns[column] = None
    if len({row.rpartition(".")[0] for row in rows}) == 1:  # one stack of blocks: their numbers say enough
        rows = {row.rpartition(".")[2]: names for row, names in rows.items()}
    return rows, list(columns)


def _items(names: Iterable[str], together: bool) -> Iterable[list[str]]:
    items: dict[str, list[str]] = {}
    for name in names:
        found = _FUSED.match(name) if together else None
        key = name if found is None else f"{found[1] or ''}{'qkv' if found[2][0] in 'qkv' else 'gate_up'}"
        items.setdefault(key, []).append(name)
    return items.values()


def _uniform(sensitivity: Sensitivity, bits: int, group: Group) -> Uniform:
    layers = sensitivity.layers.values()
    size = 8 * sum(each.size(bits, group) for each in layers) / sensitivity.weights
    return Uniform(bits, group, size, sum(each.loss(bits, group) for each in layers))
