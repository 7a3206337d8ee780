"""Codes of few bits out of 32-bit words."""

from __future__ import annotations

from lutsmith._torch import torch

__all__ = ["from_words", "nibbles"]

_WORD = 32


def from_words(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """words [rows, any], int32, each row a string of bits from the lowest of the first word on -> [rows, count], uint8.

    Of 3 bits a code may lie in two words: 32 codes take three of them.
    """
    rows, length = words.shape
    cycle = -length % bits
    if cycle:
        words = torch.nn.functional.pad(words, (0, cycle))
    unsigned = words.reshape(rows, -1, bits).long() & 0xFFFFFFFF
    columns = []
    for i in range(_WORD):
        word, shift = divmod(i * bits, _WORD)
        value = unsigned[..., word] >> shift
        if shift + bits > _WORD:
            value = value | unsigned[..., word + 1] << (_WORD - shift)
        columns.append((value & (2**bits - 1)).to(torch.uint8))
    return torch.stack(columns, dim=-1).reshape(rows, -1)[:, :count].contiguous()


def nibbles(data: torch.Tensor, high_first: bool = False) -> torch.Tensor:
    """[..., bytes], uint8 -> [..., 2 * bytes]: the two halves of each byte as neighbours."""
    low, high = data & 15, data >> 4
    pair = (high, low) if high_first else (low, high)
    return torch.stack(pair, dim=-1).flatten(-2)
