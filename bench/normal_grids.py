"""Computes the grids of pairs that python/src/lutsmith/normal_grids.py has, and prints that file.

    python bench/normal_grids.py > python/src/lutsmith/normal_grids.py        # some minutes

Of the grids of N points in the plane the one with the least mean squared error for two independent standard normal
numbers has each point where the mean is of what is nearer to it than to any other (Lloyd, 1982; Linde, Buzo and Gray,
1980). Many grids are so, with errors that differ by some tenths of a percent. From each start, points spread evenly and
as thinly as Zador's formula wants them (by the square root of the density), L-BFGS goes down; the best end is taken. No
chance is in it.

Errors and means are exact but for rounding. Over a cell, a polygon whose edges lie at distances d from the origin,

    integral of x * density = -sum over edges of normal * phi(d) * (Phi(end) - Phi(begin))
    integral of density     = [origin inside] - sum over edges of integral of exp(-d^2 / (2 cos^2 t)) dt / (2 pi)

by Gauss' theorem, as the density's gradient is -x * density, and -exp(-r^2 / 2) x / (2 pi r^2) has the density as its
divergence everywhere but at the origin.
"""

from __future__ import annotations

import argparse
import math
import sys

import torch

SIZES = (16, 64, 256)
NEIGHBOURS = 24  # among which are all that share an edge with a cell of a good grid
DIGITS = 5
POINTS_A_LINE = 4

PLASTIC_NUMBER = 1.32471795724474602596
_NODES = 48


def _legendre(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of Gauss' quadrature from -1 to 1, of the Jacobi matrix (Golub and Welsch, 1969)."""
    steps = torch.arange(1, count, dtype=torch.float64)
    beside = steps / (4 * steps**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, 2 * vectors[0] ** 2


NODES, WEIGHTS = _legendre(_NODES)


def moments(grid: torch.Tensor, neighbours: int = NEIGHBOURS) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each point's cell the probability [N], and the integral of x * density [N, 2]."""
    size = len(grid)
    squares = grid.square().sum(1)
    distances = torch.cdist(grid, grid)
    distances.fill_diagonal_(math.inf)
    near = distances.topk(min(neighbours, size - 1), largest=False).indices
    apart = grid[near] - grid.unsqueeze(1)
    length = apart.norm(dim=2)
    normal = apart / length.unsqueeze(2)
    # Of the line halfway to each neighbour, from the origin.
    offset = (squares[near] - squares.unsqueeze(1)) / (2 * length)
    along = torch.stack((-normal[..., 1], normal[..., 0]), 2)
    # On the line to neighbour j the cell is where place * slope <= room for every other neighbour's line.
    slope = along @ normal.transpose(1, 2)
    room = offset.unsqueeze(1) - offset.unsqueeze(2) * (normal @ normal.transpose(1, 2))
    slope.diagonal(dim1=1, dim2=2).zero_()
    bound = room / slope
    end = torch.where(slope > 0, bound, math.inf).amin(2)
    begin = torch.where(slope < 0, bound, -math.inf).amax(2)
    cell, neighbour = torch.nonzero(begin < end, as_tuple=True)
    normal, offset, begin, end = (each[cell, neighbour] for each in (normal, offset, begin, end))

    density = torch.exp(-offset.square() / 2) / math.sqrt(2 * math.pi)
    through = density * (torch.special.ndtr(end) - torch.special.ndtr(begin))
    first = torch.zeros_like(grid).index_add_(0, cell, -through.unsqueeze(1) * normal)

    low, high = torch.atan2(begin, offset.abs()), torch.atan2(end, offset.abs())
    angles = (low + high).unsqueeze(1) / 2 + (high - low).unsqueeze(1) / 2 * NODES
    tails = torch.exp(-offset.square().unsqueeze(1) / (2 * torch.cos(angles).square())) @ WEIGHTS
    outside = torch.sign(offset) * (high - low) / 2 * tails / (2 * math.pi)
    probability = torch.zeros(size, dtype=grid.dtype)
    probability[squares.argmin()] = 1
    return probability.index_add_(0, cell, -outside), first


def error(grid: torch.Tensor, neighbours: int | None = None) -> float:
    """Mean squared error of one number of a pair."""
    probability, first = moments(grid, neighbours or len(grid))
    return float(1 - (grid * first).sum() + (grid.square().sum(1) * probability).sum() / 2)


def spread(size: int, start: int) -> torch.Tensor:
    """Multiples of the plastic number's powers, which fill a square evenly, as quantiles of density exp(-r^2 / 4)."""
    places = torch.arange(start * size, (start + 1) * size, dtype=torch.float64) + 0.5
    powers = torch.tensor([PLASTIC_NUMBER**-1, PLASTIC_NUMBER**-2], dtype=torch.float64)
    return math.sqrt(2) * torch.special.ndtri((places.unsqueeze(1) * powers).frac())


def improved(grid: torch.Tensor) -> torch.Tensor:
    """Some of Lloyd's steps, which stand any start, and then as many of L-BFGS as gain."""
    for _ in range(40):
        probability, first = moments(grid)
        grid = first / probability.unsqueeze(1)
    grid = grid.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [grid],
        max_iter=600,
        history_size=30,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> torch.Tensor:
        with torch.no_grad():
            probability, first = moments(grid)
            grid.grad = grid * probability.unsqueeze(1) - first
            return 1 - (grid * first).sum() + (grid.square().sum(1) * probability).sum() / 2

    optimizer.step(evaluate)
    return grid.detach()


def best_grid(size: int, starts: int) -> torch.Tensor:
    """In the order of their numbers, rounded."""
    best: tuple[float, torch.Tensor | None] = (math.inf, None)
    for start in range(starts):
        grid = improved(spread(size, start))
        found = error(grid)
        print(f"{size} points, start {start + 1} of {starts}: {found:.7f}", file=sys.stderr, flush=True)
        if found < best[0]:
            best = (found, grid)
    return torch.tensor(sorted(best[1].tolist()), dtype=torch.float64).round(decimals=DIGITS) + 0.0  # no -0


HEADER = '''"""Grids of pairs with the least mean squared error for two independent standard normal numbers, by size.

Made by bench/normal_grids.py, which has the method. The mean squared error of one number of a pair, beside that of
Lloyd's levels with as many bits:

    bits  pairs   of pairs  of levels (Max, 1960, table I)
{rows}
"""

from __future__ import annotations

Pair = tuple[float, float]

'''
OF_LEVELS = {2: ".1175", 3: ".03455", 4: ".00950"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=40)
    arguments = parser.parse_args()
    grids = {size: best_grid(size, arguments.starts) for size in SIZES}
    rows = []
    for bits, grid in zip((2, 3, 4), grids.values()):
        of_pairs = f"{error(grid):.7f}".removeprefix("0")
        rows.append(f"    {bits:>4}  {len(grid):>5}   {of_pairs}  {OF_LEVELS[bits]}")
    print(HEADER.format(rows="\n".join(rows)), end="")
    print("GRIDS: dict[int, tuple[Pair, ...]] = {")
    for size, grid in grids.items():
        print(f"    {size}: (")
        pairs = [f"({first:.{DIGITS}f}, {second:.{DIGITS}f})," for first, second in grid.tolist()]
        for at in range(0, size, POINTS_A_LINE):
            print("        " + " ".join(pairs[at : at + POINTS_A_LINE]))
        print("    ),")
    print("}")


if __name__ == "__main__":
    main()
