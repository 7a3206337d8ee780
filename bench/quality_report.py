"""Tables of what bench/quality.py measured: losses, published orders and targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lutsmith.evaluation import Estimate, Evaluation

#: Orders that were published (docs/quality.md says by whom) and, last, one of this library: the first loses less.
PUBLISHED = [
    ("nf", "int"),
    ("gptq+nf", "nf"),
    ("awq", "int"),
    ("awq+nf", "awq"),
    ("awq+nf", "nf"),
    ("nfl", "nf"),
    ("kmeans+importance", "nf"),
    ("awq+nf+importance", "awq+nf"),
]
#: In nats a token: perplexity within 3 % of 16 bits.
CLOSE = 1.03


@dataclass(frozen=True)
class Row:
    """A method at a width and a group; `found` by texts' names, all against the 16-bit model."""

    method: str
    bits: int
    group: int
    bits_per_weight: float
    seconds: float
    found: dict[str, Evaluation]

    def document(self) -> dict[str, Any]:
        texts = {
            name: {"cut": each.cut, "context": each.context, "sums": each.sums.tolist()}
            for name, each in self.found.items()
        }
        return {**{key: value for key, value in vars(self).items() if key != "found"}, "texts": texts}

    @classmethod
    def read(cls, document: dict[str, Any]) -> Row:
        texts = document.pop("texts")
        found = {
            name: Evaluation(each["cut"], each["context"], torch.tensor(each["sums"], dtype=torch.float64))
            for name, each in texts.items()
        }
        return cls(**document, found=found)


def report(about: dict[str, Any], rows: list[Row]) -> str:
    """Markdown of rows that have run, and nothing else."""
    names = list(rows[0].found)
    return "\n".join(
        [
            f"{about['model']}; {', '.join(f'{name} {count}' for name, count in about['texts'].items())} tokens in "
            f"windows of {about['window']}; calibrated on {about['calibration']['tokens']}. In brackets 95 % intervals.",
            "",
            *_losses(rows, names),
            "",
            *_orders(rows, names),
            "",
            *_targets(rows, names),
        ]
    )


def _losses(rows: list[Row], names: list[str]) -> list[str]:
    columns = ["bits", "group", "method", "bits a weight"]
    columns += [f"{name}: perplexity over 16 bits'" for name in names] + [f"{name}: divergence" for name in names]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    order = {method: index for index, method in enumerate(dict.fromkeys(row.method for row in rows))}
    for row in sorted(rows, key=lambda row: (-row.bits, row.group, order[row.method])):
        if row.method == "16 bits":
            perplexities = [_shown(row.found[name].perplexity, 2) for name in names]
            cells = ["16", "", f"perplexity itself: {', '.join(perplexities)}", "16", *[""] * (2 * len(names))]
        else:
            cells = [str(row.bits), str(row.group), row.method, f"{row.bits_per_weight:.3f}"]
            cells += [_shown(row.found[name].ratio, 3) for name in names]
            cells += [_shown(row.found[name].divergence, 3) for name in names]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _orders(rows: list[Row], names: list[str]) -> list[str]:
    """Ratios of perplexities on the same windows, below 1 where a published order reappears."""
    lines = [f"| less than | bits | group | {' | '.join(names)} |", f"|{'---|' * (3 + len(names))}"]
    found = {(row.method, row.bits, row.group): row for row in rows}
    for better, worse in PUBLISHED:
        for (method, bits, group), row in sorted(found.items(), key=lambda item: (-item[0][1], item[0][2])):
            other = found.get((worse, bits, group))
            if method != better or other is None:
                continue
            cells = []
            for name in names:
                ratio = row.found[name].ratio_to(other.found[name])
                cells.append(f"{_shown(ratio, 3)} {_verdict(ratio)}")
            lines.append(f"| {better} < {worse} | {bits} | {group} | {' | '.join(cells)} |")
    return lines


def _verdict(ratio: Estimate) -> str:
    if ratio.high < 1:
        return "yes"
    return "**no**" if ratio.low > 1 else "not sure"


def _targets(rows: list[Row], names: list[str]) -> list[str]:
    lines = []
    for row in rows:
        if (row.method, row.bits, row.group) == ("awq+nf", 4, 64):
            ratios = {name: row.found[name].ratio for name in names}
            met = all(ratio.value <= CLOSE for ratio in ratios.values())
            said = ", ".join(f"{name} {_shown(ratio, 3)}" for name, ratio in ratios.items())
            lines.append(f"- 4 bits, group 64, awq+nf within 3 % of 16 bits: **{'met' if met else 'missed'}**: {said}")
    for group in sorted({row.group for row in rows if row.bits == 3}):
        here = {row.method: row for row in rows if (row.bits, row.group) == (3, group)}
        if not {"int", "nf"} < here.keys():
            continue
        for name in names:
            losses = {method: float(row.found[name].ratio.value) for method, row in here.items()}
            logs = {method: torch.tensor(ratio).log().item() for method, ratio in losses.items()}
            best = min(logs, key=logs.__getitem__)
            part = logs[best] / logs["int"]
            lines.append(
                f"- 3 bits, group {group}, {name}: the best, {best}, leaves {100 * part:.0f} % of the loss of int to "
                f"nearest, {100 * logs[best] / logs['nf']:.0f} % of nf's (in nats above 16 bits): "
                f"**{'at least halved' if part <= 0.5 else 'not halved'}**"
            )
    return lines


def _shown(estimate: Estimate, digits: int) -> str:
    value, low, high = (f"{each:.{digits}f}" if each < 1000 else f"{each:.1e}" for each in estimate)
    return f"{value} ({low}–{high})"
