"""Several models on one text, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lutsmith._core import Error
from lutsmith.evaluation.bootstrap import COVERAGE, RESAMPLES, Estimate
from lutsmith.evaluation.result import Evaluation

__all__ = ["Comparison", "Entry"]

_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A model of a comparison.

    Attributes:
        bits_per_weight: of its linear layers, as `model_size` counts them.
        model_bits_per_weight: of all of it; None where that is not known.
    """

    name: str
    evaluation: Evaluation
    bits_per_weight: float
    model_bits_per_weight: float | None = None

    @property
    def loss(self) -> Estimate:
        """What is weighed against bits: divergence, or perplexity where there is no reference."""
        return self.evaluation.divergence if self.evaluation.has_reference else self.evaluation.perplexity


class Comparison:
    """Models on the same windows of one text."""

    def __init__(self, text: str, entries: Sequence[Entry]) -> None:
        """text: its name. Raises Error where there is no model, or two are of other windows or without a reference."""
        if not entries:
            raise Error("entries: no model; give at least one")
        first = entries[0].evaluation
        for entry in entries[1:]:
            if entry.evaluation.has_reference != first.has_reference:
                raise Error("entries: some have a reference and some have none; evaluate all of them with the same one")
            entry.evaluation.ratio_to(first)  # refuses other windows
        self.text = text
        self.entries = list(entries)

    def front(self) -> set[str]:
        """Names of models that no other one beats: in bits or in loss, without being worse in the other."""
        points = [(entry.name, entry.bits_per_weight, entry.loss.value) for entry in self.entries]
        return {
            name
            for name, bits, loss in points
            if not any(b <= bits and l <= loss and (b, l) != (bits, loss) for _, b, l in points)
        }

    def markdown(self) -> str:
        """A heading line and a table; intervals in brackets."""
        evaluation = self.entries[0].evaluation
        cut = evaluation.cut
        whole_known = any(entry.model_bits_per_weight is not None for entry in self.entries)
        columns = ["model", "bits a weight", *(["whole model"] if whole_known else []), "perplexity"]
        if evaluation.has_reference:
            columns += ["times the reference's", "divergence (nats a token)", "same next token"]
        front = self.front()
        lines = [
            f"{self.text}: {cut['scored']} tokens in {cut['windows']} windows of {cut['window']}, "
            f"stride {cut['stride']}; in brackets {100 * COVERAGE:.0f} % intervals over windows; * on the front of bits "
            "and loss",
            "",
            f"| {' | '.join(columns)} |",
            f"|{'---|' * len(columns)}",
        ]
        for entry in self.entries:
            whole = entry.model_bits_per_weight
            cells = [
                f"{entry.name}{' *' if entry.name in front else ''}".replace("|", "\\|"),
                f"{entry.bits_per_weight:.3f}",
                *(["" if whole is None else f"{whole:.3f}"] if whole_known else []),
                _shown(entry.evaluation.perplexity, 2),
            ]
            if evaluation.has_reference:
                same = Estimate(*(100 * value for value in entry.evaluation.same_choice))
                cells += [
                    _shown(entry.evaluation.ratio, 3),
                    _shown(entry.evaluation.divergence, 4),
                    f"{_shown(same, 1)} %",
                ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def document(self) -> dict[str, Any]:
        """The same for programs, to be written as JSON; what is no number (an interval of one window) is None."""
        evaluation = self.entries[0].evaluation
        front = self.front()
        models = []
        for entry in self.entries:
            found = entry.evaluation
            model = {
                "name": entry.name,
                "bits_per_weight": entry.bits_per_weight,
                "model_bits_per_weight": entry.model_bits_per_weight,
                "front": entry.name in front,
                "perplexity": _document(found.perplexity),
            }
            if found.has_reference:
                model["ratio"] = _document(found.ratio)
                model["divergence"] = _document(found.divergence)
                model["same_choice"] = _document(found.same_choice)
            models.append(model)
        return {
            "version": _VERSION,
            "text": self.text,
            **evaluation.cut,
            "context": evaluation.context,
            "interval": COVERAGE,
            "resamples": RESAMPLES,
            "models": models,
        }


def _shown(estimate: Estimate, digits: int) -> str:
    value, low, high = (f"{each:.{digits}f}" for each in estimate)
    return value if math.isnan(estimate.low) else f"{value} ({low}–{high})"


def _document(estimate: Estimate) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in estimate._asdict().items()}
