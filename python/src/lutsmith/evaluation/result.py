"""What an evaluation found, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.evaluation.bootstrap import Estimate, interval

__all__ = ["Evaluation"]

_COUNT, _LOSS, _REFERENCE_LOSS, _DIVERGENCE, _SAME = range(5)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Of a model on a text. Each `Estimate` has a 95 % interval, by resampling windows.

    Attributes:
        cut: window, stride, windows, scored tokens and a hash of the tokens: what two evaluations must share to be
            compared.
        context: tokens that a scored one has before it, at least; those in a text's first window have from 1 on.
        sums: [windows, 2 or 5], float64: of each window the scored tokens and the sum of their losses in nats; with a
            reference also the sum of its losses, that of the divergences, and the tokens where both think the same most
            likely.
    """

    cut: dict[str, Any]
    context: int
    sums: torch.Tensor = field(repr=False)

    @property
    def tokens(self) -> int:
        """Scored ones."""
        return self.cut["scored"]

    @cached_property
    def perplexity(self) -> Estimate:
        """exp(mean of -log of the probability that the model gave the token)."""
        return interval(self.sums, lambda sums: (sums[..., _LOSS] / sums[..., _COUNT]).exp())

    @cached_property
    def reference_perplexity(self) -> Estimate:
        return interval(self._compared(), lambda sums: (sums[..., _REFERENCE_LOSS] / sums[..., _COUNT]).exp())

    @cached_property
    def ratio(self) -> Estimate:
        """Perplexity over the reference's; the interval is of pairs, so much narrower than either's."""
        sums = self._compared()
        return _ratio(sums[:, _COUNT], sums[:, _LOSS], sums[:, _REFERENCE_LOSS])

    @cached_property
    def divergence(self) -> Estimate:
        """Mean of KL(reference || model), of the distributions of the next token, in nats a token."""
        return interval(self._compared(), lambda sums: sums[..., _DIVERGENCE] / sums[..., _COUNT])

    @cached_property
    def same_choice(self) -> Estimate:
        """Part of the tokens where model and reference think the same next token most likely."""
        return interval(self._compared(), lambda sums: sums[..., _SAME] / sums[..., _COUNT])

    def ratio_to(self, other: Evaluation) -> Estimate:
        """This perplexity over that of another model on the same windows, with the interval of pairs.

        Where it excludes 1, the two differ by more than the choice of windows explains.

        Raises:
            Error: where the other one is of other tokens or windows.
        """
        different = [name for name, value in self.cut.items() if other.cut[name] != value]
        if different:
            name = different[0]
            raise Error(
                f"other: an evaluation of other windows ({name} {other.cut[name]}, here {self.cut[name]}) is not "
                "allowed; allowed: one of the same tokens, window and stride"
            )
        return _ratio(self.sums[:, _COUNT], self.sums[:, _LOSS], other.sums[:, _LOSS])

    @property
    def has_reference(self) -> bool:
        return self.sums.shape[1] > _SAME

    def _compared(self) -> torch.Tensor:
        if not self.has_reference:
            raise Error("reference: none was given to evaluate, so there is nothing to compare with; give one")
        return self.sums


def _ratio(count: torch.Tensor, loss: torch.Tensor, other: torch.Tensor) -> Estimate:
    sums = torch.stack([count, loss - other], 1)
    return interval(sums, lambda sums: (sums[..., 1] / sums[..., 0]).exp())
