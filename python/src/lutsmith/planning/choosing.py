"""One option for each item, of the least sum of losses whose sum of sizes fits: the multiple-choice knapsack problem.

The budget is given a price first (Lagrange's multiplier; Everett, Generalized Lagrange Multiplier Method, 1963), which
gives a bound that no choice is below and one that fits. What is between the two is searched by dynamic programming over
Pareto-optimal partial choices (Nemhauser and Ullmann, Discrete Dynamic Programming and Capital Allocation, 1969),
without those that the bound rules out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["Chosen", "Option", "choose"]

_PRICE_STEPS = 100
_PARTIAL_CHOICES = 1 << 13  # kept at once


class Option(NamedTuple):
    size: int
    loss: float


@dataclass(frozen=True)
class Chosen:
    """Attributes:
    picks: for each item the index of its option.
    size, loss: their sums.
    bound: no choice that fits loses less.
    exact: whether this one is proven to lose least.
    """

    picks: list[int]
    size: int
    loss: float
    bound: float
    exact: bool


def choose(items: Sequence[Sequence[Option]], budget: int, known: Iterable[Sequence[int]] = ()) -> Chosen:
    """The best choice of total size `budget` at most.

    Args:
        items: of each the options, in any order.
        known: choices that the result is to be no worse than, if they fit.

    Raises:
        Error: where the smallest options do not fit.
    """
    smallest = [min(option.size for option in options) for options in items]
    if sum(smallest) > budget:
        raise Error(
            f"size: {budget} bytes are not allowed; allowed: at least {sum(smallest)}, what the smallest options take"
        )
    price, bound, picks = _priced(items, budget)
    for other in known:
        if _size(items, other) <= budget and _loss(items, other) < _loss(items, picks):
            picks = list(other)
    found, exact = _search(items, budget, price, bound, _loss(items, picks), smallest)
    if found is not None and _loss(items, found) < _loss(items, picks):
        picks = found
    loss = _loss(items, picks)
    return Chosen(picks, _size(items, picks), loss, min(bound, loss), exact)


def _size(items: Sequence[Sequence[Option]], picks: Sequence[int]) -> int:
    return sum(options[pick].size for options, pick in zip(items, picks, strict=True))


def _loss(items: Sequence[Sequence[Option]], picks: Sequence[int]) -> float:
    return sum(options[pick].loss for options, pick in zip(items, picks, strict=True))


def _priced(items: Sequence[Sequence[Option]], budget: int) -> tuple[float, float, list[int]]:
    """The price of a byte with the highest bound, that bound, and a choice that fits."""

    def best(price: float) -> list[int]:
        return [
            min(
                range(len(options)),
                key=lambda index: (options[index].loss + price * options[index].size, options[index].size),
            )
            for options in items
        ]

    def bound(price: float, picks: list[int]) -> float:
        return _loss(items, picks) + price * (_size(items, picks) - budget)

    free = best(0.0)
    if _size(items, free) <= budget:
        return 0.0, _loss(items, free), free
    low, high = 0.0, 1e-12
    while _size(items, best(high)) > budget:
        low, high = high, 4 * high
        if high > 1e300:  # losses so far apart that no price leads to the smallest: take these
            break
    for _ in range(_PRICE_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _size(items, best(middle)) > budget else (low, middle)
    fitting = best(high)
    if _size(items, fitting) > budget:
        fitting = [min(range(len(options)), key=lambda index: options[index].size) for options in items]
    return high, max(bound(low, best(low)), bound(high, best(high))), fitting


def _search(
    items: Sequence[Sequence[Option]],
    budget: int,
    price: float,
    bound: float,
    incumbent: float,
    smallest: list[int],
) -> tuple[list[int] | None, bool]:
    """A choice that loses less than the incumbent, None where there is none; and whether none was passed over.

    With p the price and m the sum over items of min(loss + p size), a choice loses m - p budget, which is the bound,
    plus what each of its options is above its item's minimum, plus p times what it leaves of the budget. So a partial
    choice whose options are above by more than the gap between incumbent and bound leads to none that is better.
    """
    gap = incumbent - bound
    slack = 1e-9 * abs(incumbent)
    sizes = torch.zeros(1, dtype=torch.int64)
    losses = torch.zeros(1, dtype=torch.float64)
    above = torch.zeros(1, dtype=torch.float64)
    rest = sum(smallest)
    exact = True
    history: list[tuple[torch.Tensor, torch.Tensor]] = []
    for options, least in zip(items, smallest, strict=True):
        rest -= least
        size = torch.tensor([option.size for option in options], dtype=torch.int64)
        loss = torch.tensor([option.loss for option in options], dtype=torch.float64)
        reduced = loss + price * size
        reduced -= reduced.min()
        count = len(options)
        new_sizes = (sizes[:, None] + size).flatten()
        new_losses = (losses[:, None] + loss).flatten()
        new_above = (above[:, None] + reduced).flatten()
        parents = torch.arange(len(sizes)).repeat_interleave(count)
        picks = torch.arange(count).repeat(len(sizes))
        kept = ((new_above <= gap + slack) & (new_sizes + rest <= budget)).nonzero()[:, 0]
        # By size, and among equals by loss: what is no better than all before it is beaten by one of them.
        kept = kept[new_losses[kept].argsort(stable=True)]
        kept = kept[new_sizes[kept].argsort(stable=True)]
        so_far = new_losses[kept]
        if len(kept) > 1:
            before = torch.cat([torch.full((1,), torch.inf, dtype=torch.float64), so_far.cummin(0).values[:-1]])
            kept = kept[so_far < before]
        if len(kept) > _PARTIAL_CHOICES:
            exact = False
            kept = kept[new_above[kept].argsort()[:_PARTIAL_CHOICES]]
        if len(kept) == 0:
            return None, exact
        sizes, losses, above = new_sizes[kept], new_losses[kept], new_above[kept]
        history.append((parents[kept], picks[kept]))
    place = int(losses.argmin())
    found = []
    for parents, picks in reversed(history):
        found.append(int(picks[place]))
        place = int(parents[place])
    return found[::-1], exact
