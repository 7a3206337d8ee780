"""Random Hadamard transforms: x becomes x D H / sqrt(b), block of b channels after block.

H is Sylvester's matrix of +1 and -1, D has random signs on its diagonal, the same in every block of a row. The
transform T is orthogonal, so x W^T = (x T) (W T)^T: weights are transformed once, before they are quantized, and x
before each product. What comes out are sums of b numbers with random signs, close to normally distributed whatever
went in, so that a table for the normal distribution fits and an outlier is shared by its whole block (Malinovskii et
al., Pushing the Limits of Large Language Model Quantization via the Linearity Theorem, 2024; random signs and H as in
Tseng et al., QuIP#, 2024).

A launch on a GPU: the blocks of all tokens as rows of one matrix, times one [b, b] matrix of signs, D H.
"""

from __future__ import annotations

from typing import NamedTuple

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["BLOCKS", "LARGEST_BLOCK", "NO_SIGNS", "Hadamard", "fitting", "inverse", "prepare", "transform"]

BLOCKS = (8, 16, 32, 64, 128, 256, 512, 1024)  # every K that kernels read is a multiple of the first
LARGEST_BLOCK = BLOCKS[-1]
_MOST_SEED = 2**63 - 1  # what an operator takes as an int
#: The seed of transforms without signs, H alone, as the weights of other libraries may have gone through.
NO_SIGNS = -1
_NUMBERS_AT_ONCE = 1 << 14  # of float32: what a core's caches hold, and too few for torch to start threads


class Hadamard(NamedTuple):
    """A transform of rows of any multiple of `block` numbers.

    Attributes:
        block: neighbours along K that are mixed: a power of two, 8 to 1024.
        seed: of the signs, from 0. Channel 64 i + j of a block has a minus where bit j of the (i + 1)-th number of
            SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014) is set. `NO_SIGNS`:
            none has one.
    """

    block: int
    seed: int = 0

    def __str__(self) -> str:
        return f"h{self.block}:{self.seed}"


def check(hadamard: Hadamard, k: int) -> None:
    """Raises Error for a transform that there is not, or not of rows of k numbers."""
    if hadamard.block not in BLOCKS or k % hadamard.block:
        raise Error(
            f"hadamard: blocks of {hadamard.block} are not allowed with K = {k}; allowed: powers of two from "
            f"{BLOCKS[0]} to {LARGEST_BLOCK} that divide K"
        )
    if not NO_SIGNS <= hadamard.seed <= _MOST_SEED:
        raise Error(f"seed: {hadamard.seed} is not allowed; allowed: 0 to 2**63 - 1, or {NO_SIGNS} for no signs")


def fitting(largest: int, seed: int, k: int) -> Hadamard | None:
    """With the largest block that divides k and is at most `largest`, a power of two; None for 0: no transform."""
    if isinstance(largest, bool) or largest not in (0, *BLOCKS):
        allowed = ", ".join(map(str, BLOCKS))
        raise Error(f"hadamard: {largest!r} is not allowed; allowed: 0 (no transform), {allowed}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise Error(f"seed: {seed!r} is not allowed; allowed: 0 to 2**63 - 1")
    if largest == 0:
        return None
    if k % BLOCKS[0]:
        raise Error(f"hadamard: no block divides K = {k}; allowed: K that is a multiple of {BLOCKS[0]}")
    found = Hadamard(min(largest, k & -k), seed)  # k & -k: the largest power of two that divides k
    check(found, k)
    return found


def transform(x: torch.Tensor, hadamard: Hadamard, batch_invariant: bool = False) -> torch.Tensor:
    """x T, of x [..., a multiple of the block] in any floating type: the same shape, rounded to that type once.

    Sums are float32's, on a GPU those of a matrix product, in an order that depends on how many tokens there are;
    with `batch_invariant` it does not, at some thirty launches.
    """
    if x.is_cuda and x.dtype != torch.float32 and not batch_invariant:
        return by_matrix(x, hadamard)
    signs = _signs(hadamard, x.device)
    blocks = x.reshape(-1, hadamard.block)
    result = torch.empty_like(blocks)
    for rows in _slabs(blocks.shape[0], hadamard.block, x.is_cuda):
        result[rows] = _sums(blocks[rows].float() * signs).to(x.dtype)
    return result.reshape(x.shape)


def prepare(hadamard: Hadamard, dtype: torch.dtype, device: torch.device, batch_invariant: bool) -> None:
    """Has all that `transform` needs made, so that it can be captured."""
    transform(torch.zeros((1, hadamard.block), dtype=dtype, device=device), hadamard, batch_invariant)


def inverse(x: torch.Tensor, hadamard: Hadamard) -> torch.Tensor:
    """x T^T: what `transform` makes x of. Float32 inside, in the type and shape of x."""
    signs = _signs(hadamard, x.device)
    blocks = x.reshape(-1, hadamard.block)
    result = torch.empty_like(blocks)
    for rows in _slabs(blocks.shape[0], hadamard.block, x.is_cuda):
        result[rows] = (_sums(blocks[rows].float()) * signs).to(x.dtype)
    return result.reshape(x.shape)


def by_matrix(x: torch.Tensor, hadamard: Hadamard) -> torch.Tensor:
    """`transform` as one product with a matrix in the 16-bit type of x, which holds its +1 and -1 exactly."""
    blocks = x.reshape(-1, hadamard.block)
    matrix = matrix_of(hadamard, x.dtype, x.device)
    # addmm for its factor, which is applied to sums in float32: 1 / sqrt(b) itself 16 bits would round.
    return torch.addmm(matrix[:1], blocks, matrix, beta=0, alpha=hadamard.block**-0.5).reshape(x.shape)


# Made once and kept, so that graphs may point to them. Two threads may make one; the first stays.
_matrices: dict[tuple[Hadamard, torch.dtype, torch.device], torch.Tensor] = {}
_sign_vectors: dict[tuple[Hadamard, torch.device], torch.Tensor] = {}


def matrix_of(hadamard: Hadamard, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """D H [block, block]: 2 MB for the largest."""
    key = (hadamard, dtype, device)
    found = _matrices.get(key)
    if found is not None:
        return found
    rows = torch.eye(hadamard.block, device="cpu")
    signs = _signs(hadamard, rows.device)
    matrix = _sums(rows).mul_(hadamard.block**0.5).round_() * signs.unsqueeze(1)
    return _matrices.setdefault(key, _moved(matrix.to(dtype), device))


def _signs(hadamard: Hadamard, device: torch.device) -> torch.Tensor:
    """[block], float32."""
    key = (hadamard, device)
    found = _sign_vectors.get(key)
    if found is None:
        made = torch.tensor(signs(hadamard), dtype=torch.float32, device="cpu")
        found = _sign_vectors.setdefault(key, _moved(made, device))
    return found


def _moved(made: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise Error(
            "what a Hadamard transform multiplies by is not on the GPU, and nothing can be copied there while a graph "
            "is captured; call lutsmith.prepare(model) before"
        )
    return made.to(device)


def signs(hadamard: Hadamard) -> list[int]:
    """D's diagonal: 1 and -1, of each channel of a block."""
    if hadamard.seed == NO_SIGNS:
        return [1] * hadamard.block
    result: list[int] = []
    state, mask = hadamard.seed, 2**64 - 1
    while len(result) < hadamard.block:
        state = (state + 0x9E3779B97F4A7C15) & mask
        word = state
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        word ^= word >> 31
        result.extend(-1 if word >> bit & 1 else 1 for bit in range(64))
    return result[: hadamard.block]


def _slabs(rows: int, block: int, whole: bool) -> list[slice]:
    """What a processor's caches hold at a time; a GPU takes all."""
    at_once = max(1, rows if whole else _NUMBERS_AT_ONCE // block)
    return [slice(first, first + at_once) for first in range(0, rows, at_once)]


def _sums(rows: torch.Tensor) -> torch.Tensor:
    """rows H / sqrt(b) of [rows, b], float32, by sums and differences of halves.

    Every number's sum is made in the same order, whatever rows are beside it.
    """
    count, block = rows.shape
    # Across the rows, so that halves are long runs of memory.
    columns = rows.t().contiguous()
    half = 1
    while half < block:
        pairs = columns.reshape(block // (2 * half), 2, half, count)
        columns = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), 1)
        half *= 2
    return columns.reshape(block, count).t().mul(block**-0.5).contiguous()
