"""Which layers of a model are packed when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["packable_layers"]

_EXAMPLES = 4  # names in a message


def packable_layers(model: torch.nn.Module, names: Sequence[str] | None = None) -> dict[str, torch.nn.Linear]:
    """The linear layers of a model by name: of one of transformers those that LutsmithConfig packs, without the head.

    names: only these, which may be any `torch.nn.Linear`. Raises Error where a name is none's, or no layer is left.
    """
    linear = {name: each for name, each in model.named_modules() if type(each) is torch.nn.Linear}
    if names is not None:
        unknown = [name for name in names if name not in linear]
        if unknown:
            raise Error(
                f"layers: {unknown[0]!r} is no torch.nn.Linear of {type(model).__name__}; allowed: "
                f"{', '.join(list(linear)[:_EXAMPLES])}, ..."
            )
        chosen = {name: linear[name] for name in names}
    else:
        chosen = _usual(model, linear)
    if not chosen:
        raise Error(f"model: {type(model).__name__} has no torch.nn.Linear to quantize; give it before it is packed")
    return chosen


def _usual(model: Any, linear: dict[str, torch.nn.Linear]) -> dict[str, torch.nn.Linear]:
    if not hasattr(model, "get_output_embeddings"):
        return linear
    from lutsmith.transformers import linear_layers

    head = model.get_output_embeddings()
    return {name: each for name, each in linear_layers(model).items() if each is not head}
