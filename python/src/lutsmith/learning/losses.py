"""What a model loses on the tokens of a call, and blocks whose activations are computed twice instead of kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.checkpoint import checkpoint

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["Call", "blocks_recomputed", "logits_of", "loss_of"]

Call = tuple[tuple[torch.Tensor, ...], dict[str, Any]]  # arguments of the model


def logits_of(model: torch.nn.Module, call: Call) -> torch.Tensor:
    """[sequences, length, vocabulary]"""
    arguments, named = call
    if hasattr(model, "config"):  # of transformers: keys and values are not needed again
        named = {**named, "use_cache": False}
    result: Any = model(*arguments, **named)
    return getattr(result, "logits", result)


def loss_of(logits: torch.Tensor, call: Call, expected: torch.Tensor | None) -> tuple[torch.Tensor, int]:
    """The sum over scored positions, in nats, and their number.

    Positions are all but each sequence's last and those that the call's attention_mask leaves out. Their losses are
    -log of the probability of the next token; or with `expected`, other logits, KL(expected || logits).
    """
    arguments, named = call
    tokens = arguments[0] if arguments else named["input_ids"]
    mask = named.get("attention_mask")
    scored = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
    if mask is not None:
        scored = mask[:, 1:].bool() & mask[:, :-1].bool()
    chances = logits[:, :-1][scored].float().log_softmax(-1)
    if expected is None:
        loss = torch.nn.functional.nll_loss(chances, tokens[:, 1:][scored].long(), reduction="sum")
    else:
        wanted = expected[:, :-1][scored].float().log_softmax(-1)
        loss = torch.nn.functional.kl_div(chances, wanted, reduction="sum", log_target=True)
    return loss, int(scored.sum())


@contextmanager
def blocks_recomputed(model: torch.nn.Module) -> Iterator[None]:
    """Decoder layers keep their inputs only, and are run again for their gradients.

    Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016. Raises Error where there are none.
    """
    blocks: list[Any] = [each for each in model.modules() if hasattr(each, "self_attn") and hasattr(each, "mlp")]
    if not blocks:
        raise Error(f"recompute: {type(model).__name__} has no decoder layers, modules with self_attn and mlp")
    before = [block.__dict__.get("forward") for block in blocks]

    def twice(forward: Any) -> Any:
        return lambda *arguments, **named: checkpoint(forward, *arguments, use_reentrant=False, **named)

    for block in blocks:
        block.forward = twice(block.forward)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before):
            if forward is None:
                del block.forward
            else:
                block.forward = forward
