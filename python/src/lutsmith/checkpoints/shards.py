"""A checkpoint of transformers that is written tensor by tensor."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors.torch import save_file

from lutsmith._torch import torch

__all__ = ["Shards"]

_WHOLE = "model.safetensors"


class Shards:
    """Files of about `limit` bytes in `folder`, one of which is in memory, and their index where there are several."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._tensors: dict[str, torch.Tensor] = {}
        self._bytes = self._total = 0
        self._written: list[list[str]] = []

    def add(self, name: str, tensor: torch.Tensor) -> None:
        if self._tensors and self._bytes + tensor.nbytes > self._limit:
            self._flush()
        self._tensors[name] = tensor.contiguous()
        self._bytes += tensor.nbytes
        self._total += tensor.nbytes

    def finish(self) -> None:
        self._flush()
        count = len(self._written)
        if count == 1:
            os.replace(self._part(0), self._folder / _WHOLE)
            return
        files = {}
        for i, names in enumerate(self._written):
            file = f"model-{i + 1:05}-of-{count:05}.safetensors"
            os.replace(self._part(i), self._folder / file)
            files.update(dict.fromkeys(names, file))
        index = {"metadata": {"total_size": self._total}, "weight_map": files}
        (self._folder / f"{_WHOLE}.index.json").write_text(json.dumps(index, indent=2) + "\n")

    def _part(self, number: int) -> Path:
        return self._folder / f"{number}.part"

    def _flush(self) -> None:
        save_file(self._tensors, self._part(len(self._written)), metadata={"format": "pt"})
        self._written.append(list(self._tensors))
        self._tensors = {}
        self._bytes = 0
