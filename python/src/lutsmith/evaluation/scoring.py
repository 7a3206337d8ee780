"""What a model makes of a text: loss, and difference from a reference."""

from __future__ import annotations

from collections.abc import Sequence

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.evaluation.reference import Reference
from lutsmith.evaluation.result import Evaluation
from lutsmith.evaluation.running import Runner
from lutsmith.evaluation.windows import Windows

__all__ = ["evaluate"]

_VALUES_AT_ONCE = 1 << 24  # logits of some tokens, of which a few float64 copies are made


def evaluate(
    model: torch.nn.Module | Reference,
    tokens: torch.Tensor | Sequence[torch.Tensor],
    reference: torch.nn.Module | Reference | None = None,
    window: int = 512,
    stride: int | None = None,
    batch: int = 1,
) -> Evaluation:
    """Perplexity of a model on a text, and how far it is from a reference model there.

    The text is cut into windows, each of which the model reads by itself. Every token but the text's first is scored
    once, with at least `window - stride + 1` tokens before it (fewer only in the text's first window).

    Args:
        model: is called with token numbers [batch, window], without gradients, in evaluation mode, and left as it was.
            Its logits are [batch, window, vocabulary]. A `Reference` stands for the model whose logits it has.
        tokens: of one text [length], of several [texts, length], or a list of texts of any length; no window spans two.
        reference: the model to compare with, 16 bits usually; or what `Reference.record` kept of it.
        window: tokens that the model reads at once.
        stride: tokens from one window to the next, at most `window`, which is the default. Less gives more context, and
            takes `window / stride` times as long.
        batch: windows that the model reads side by side. With some kernels the last bits depend on it.

    Returns:
        Sums for each window; perplexity, divergence and the rest, with their intervals, are properties.

    Raises:
        Error: for fewer tokens than a window takes, tokens that are not in a vocabulary, models of different
            vocabularies, logits that are no numbers, and arguments out of their range; the text says what is allowed.
    """
    windows = Windows(tokens, window, stride)
    source = model if isinstance(model, Reference) else Runner(model)
    against = Runner(reference, "reference model") if isinstance(reference, torch.nn.Module) else reference
    if isinstance(against, Runner):
        against.check(windows)
    logits = source.logits(windows, batch)
    expected = None if against is None else against.logits(windows, batch)
    rows = []
    for index, each in enumerate(windows.all):
        given = next(logits)
        if index == 0:
            windows.check_vocabulary(given.shape[-1], "model")
        sums = _sums(given, None if expected is None else next(expected), each.targets)
        if sums.isnan().any():
            raise Error(
                f"logits: those of window {index + 1} of {len(windows.all)} are no numbers (NaN); a float16 model that "
                "overflows gives such: load it with dtype=torch.bfloat16"
            )
        rows.append(sums)
    return Evaluation(windows.describe(), windows.context, torch.stack(rows))


def _sums(logits: torch.Tensor, expected: torch.Tensor | None, targets: torch.Tensor) -> torch.Tensor:
    """Of a window, as `Evaluation.sums` has them. Both logits are [scored, vocabulary].

    In float64: the divergence of a good model is a millionth of what it is the difference of.
    """
    vocabulary = logits.shape[-1]
    if expected is not None and expected.shape[-1] != vocabulary:
        raise Error(
            f"reference: a vocabulary of {expected.shape[-1]} is not allowed; allowed: {vocabulary}, as the model's; "
            "compare a model with the one that it was quantized from"
        )
    total = torch.zeros(5, dtype=torch.float64)
    rows = max(1, _VALUES_AT_ONCE // vocabulary)
    for first in range(0, len(targets), rows):
        here = slice(first, first + rows)
        model = logits[here].double().log_softmax(-1)
        token = targets[here, None].to(model.device)
        sums = [len(token), -model.gather(1, token).sum()]
        if expected is not None:
            reference = expected[here].to(model.device).double().log_softmax(-1)
            probability = reference.exp()
            # A token that the reference rules out counts nothing, whatever the model says of it.
            terms = (probability * (reference - model)).masked_fill_(probability == 0, 0)
            same = (model.argmax(-1) == reference.argmax(-1)).sum()
            sums += [-reference.gather(1, token).sum(), terms.sum(), same]
        total[: len(sums)] += torch.tensor([float(value) for value in sums], dtype=torch.float64)
    return total if expected is not None else total[:2]
