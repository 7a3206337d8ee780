"""A GGUF file as a model of transformers: its configuration, the names of its tensors, and the order of their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import transformers
from transformers import modeling_gguf_pytorch_utils as of_transformers

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["GgufNames", "configuration", "save_tokenizer"]


def configuration(file: Path) -> transformers.PretrainedConfig:
    """Raises Error where transformers does not know the model."""
    try:
        return transformers.AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    except (ValueError, KeyError, NotImplementedError, OSError, RuntimeError) as unknown:
        raise Error(f"{file}: transformers makes no configuration of it: {unknown}") from unknown


def save_tokenizer(reader: Any, file: Path, folder: Path) -> None:
    """Where the file has one."""
    if "tokenizer.ggml.tokens" in reader.fields:
        transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


class GgufNames:
    """llama.cpp keeps the rows of some matrices in another order (those of q and k, for its rotary embedding), and adds
    to some vectors; transformers undoes that with values. Here the order is asked for, so that codes can follow it."""

    def __init__(self, file: Path, architecture: str, model: transformers.PreTrainedModel) -> None:
        parsed = of_transformers.load_gguf_checkpoint(str(file), return_tensors=False)
        kind = of_transformers.TENSOR_PROCESSORS.get(architecture, of_transformers.TensorProcessor)
        self._processor = kind(config=parsed["config"])
        self._parsed = parsed
        self._names = of_transformers.get_gguf_hf_weights_map(model, self._processor)

    def __getitem__(self, name: str) -> str | None:
        """In the model; None for what transformers takes nothing of."""
        return self._names.get(name)

    def rows(self, name: str, shape: tuple[int, int]) -> torch.Tensor | None:
        """Which row of the file each row of the model is; None: the same. Raises Error for any other change."""
        place = numpy.arange(shape[0], dtype=numpy.float64)[:, None].repeat(2, axis=1)
        place[:, 1] += 0.5
        found = self._process(name, place)
        if found.shape == place.shape and numpy.array_equal(found, place):
            return None
        rows = torch.from_numpy(numpy.ascontiguousarray(found[:, 0])).long() if found.shape == place.shape else None
        if rows is None or not numpy.array_equal(found, place[rows.numpy()]):
            raise Error(
                f"{name}: GGUF: transformers changes more than the order of its rows; it cannot be carried over"
            )
        return rows

    def values(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor that is not quantized, as the model has it."""
        return torch.from_numpy(numpy.ascontiguousarray(self._process(name, tensor.float().numpy())))

    def _process(self, name: str, values: Any) -> Any:
        result = self._processor.process(
            weights=values, name=name, tensor_key_mapping=self._names, parsed_parameters=self._parsed
        )
        return result.weights
