"""Which tokens a model reads together, and which of them are scored.

    text     t0 t1 t2 t3 t4 t5 t6 t7 t8 t9          window 4, stride 2
    reads    [ 0  1  2  3]                          scored: t1 t2 t3 t4
                   [ 2  3  4  5]                                    t5 t6
                         [ 4  5  6  7]                                    t7 t8
                            [ 5  6  7  8]           the last is full, too:      t9

Every token but a text's first is scored once, whatever window and stride are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["Windows"]

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8)


@dataclass(frozen=True, eq=False)
class _Window:
    inputs: torch.Tensor  #: [window]
    targets: torch.Tensor  #: [scored], the tokens behind the last `scored` inputs


class Windows:
    """Texts, cut.

    Attributes:
        window, stride: in tokens.
        all: the windows, each of `window` inputs.
        scored: tokens, over all windows.
    """

    def __init__(self, tokens: torch.Tensor | Sequence[torch.Tensor], window: int, stride: int | None) -> None:
        """tokens: of one text [length], of several [texts, length], or a list of texts, which no window spans."""
        stride = window if stride is None else stride
        _whole("window", window, "at least 1")
        _whole("stride", stride, f"1 to the window's {window}", window)
        texts = _texts(tokens)
        short = [index for index, text in enumerate(texts) if len(text) <= window]
        if short:
            length = len(texts[short[0]])
            which = f" of text {short[0] + 1} of {len(texts)}" if len(texts) > 1 else ""
            raise Error(
                f"tokens: {length}{which} are not allowed; allowed: at least {window + 1}, a window of {window} and "
                f"what follows it; give more text{f', or window={length - 1}' if length > 1 else ''}"
            )
        self.window, self.stride = window, stride
        self.all = [cut for text in texts for cut in _cut(text, window, stride)]
        self.scored = sum(len(each.targets) for each in self.all)
        self.largest = max(int(text.max()) for text in texts)
        self.smallest = min(int(text.min()) for text in texts)
        self._texts = texts

    @property
    def context(self) -> int:
        """Tokens of its window that a scored token has before it, at least; those at a text's beginning have fewer."""
        return self.window - self.stride + 1

    def check_vocabulary(self, vocabulary: int, whose: str) -> None:
        if self.smallest < 0 or self.largest >= vocabulary:
            wrong = self.smallest if self.smallest < 0 else self.largest
            raise Error(
                f"tokens: {wrong} is not allowed; allowed: 0 to {vocabulary - 1}, the vocabulary of the {whose}; give "
                "text that this model's own tokenizer made numbers of"
            )

    def describe(self) -> dict[str, Any]:
        """What makes two evaluations ones of the same windows."""
        numbers = json.dumps([text.tolist() for text in self._texts])
        return {
            "window": self.window,
            "stride": self.stride,
            "windows": len(self.all),
            "scored": self.scored,
            "tokens_sha256": hashlib.sha256(numbers.encode()).hexdigest(),
        }


def _whole(name: str, value: object, allowed: str, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        raise Error(f"{name}: {value!r} is not allowed; allowed: {allowed}")


def _texts(tokens: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    texts = list(tokens) if not isinstance(tokens, torch.Tensor) or tokens.dim() == 2 else [tokens]
    for text in texts:
        if not isinstance(text, torch.Tensor) or text.dim() != 1 or text.dtype not in _WHOLE:
            given = f"{text.dtype} {list(text.shape)}" if isinstance(text, torch.Tensor) else type(text).__name__
            raise Error(
                f"tokens: {given} is not allowed; allowed: whole numbers [length] or [texts, length], or a list of "
                "[length]; a tokenizer makes them of text, as lutsmith.evaluation.read_text does"
            )
    if not texts:
        raise Error("tokens: no text, so no window; give at least one")
    return [text.detach().cpu().long() for text in texts]


def _cut(text: torch.Tensor, window: int, stride: int) -> list[_Window]:
    cuts = []
    scored = 0  # targets so far; target i is token i + 1
    last = len(text) - 1 - window
    for begin in [*range(0, last, stride), last]:
        end = begin + window
        cuts.append(_Window(text[begin:end], text[scored + 1 : end + 1]))
        scored = end
    return cuts
