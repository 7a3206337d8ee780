"""Files of text, or of the token numbers that a tokenizer made of it."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["TOKEN_FILES", "read_text"]

TOKEN_FILES = (".json", ".pt")


def read_text(path: str | os.PathLike[str], tokenizer: Any = None) -> torch.Tensor:
    """Token numbers, as `evaluate` and `lutsmith.calibrate` take them.

    Args:
        path: a text in UTF-8; or token numbers [length] or [texts, length]: `*.json` (a list, or lists in a list) or
            `*.pt` (a tensor, by torch.save).
        tokenizer: of the model, for text: called with it, gives `input_ids`, as those of transformers do.

    Raises:
        Error: where the file cannot be read or is of neither kind, or is text and no tokenizer is given.
    """
    file = Path(path)
    try:
        if file.suffix == ".pt":
            tokens = torch.load(file, weights_only=True, map_location="cpu")
        elif file.suffix == ".json":
            tokens = torch.tensor(json.loads(file.read_text()))
        elif tokenizer is None:
            raise Error(f"{file}: is text, which takes the model's tokenizer; give it, or *.json or *.pt of tokens")
        else:
            tokens = torch.tensor(tokenizer(file.read_text(encoding="utf-8"))["input_ids"])
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as failed:
        raise Error(
            f"{file}: cannot be read: {failed}; allowed: text in UTF-8, or token numbers in *.json or *.pt"
        ) from failed
    if not isinstance(tokens, torch.Tensor) or tokens.dim() not in (1, 2) or tokens.is_floating_point():
        raise Error(f"{file}: holds no token numbers [length] or [texts, length]; make them with the model's tokenizer")
    return tokens
