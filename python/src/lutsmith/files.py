"""Files of packed weights, as `lutsmith quantize` writes them."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.packed_weight import PackedWeight

__all__ = ["load"]

# A packed tensor NAME is two tensors of a safetensors file, NAME.packed and NAME.table, and an entry of the JSON object
# that the file's metadata has under this key.
_METADATA_KEY = "lutsmith.packed.v1"
_ANY_VERSION = "lutsmith.packed.v"
_LENGTH_BYTES = 8


def load(path: str | os.PathLike[str]) -> dict[str, PackedWeight]:
    """The packed weights of a file that `lutsmith quantize` wrote, or of a folder of such files, by name.

    The bytes are mapped, not read: a weight's are read when it is first used or moved to a GPU. The files must stay
    as they are for as long as the weights live. Other tensors of the files are left out; the `safetensors` package
    reads them.

    Raises:
        Error: where there is no such file, or it holds no packed weights or those of another version.
    """
    place = Path(path)
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files:
        raise Error(f"{place}: the folder has no *.safetensors; give the output of `lutsmith quantize`")
    weights: dict[str, PackedWeight] = {}
    for file in files:
        weights.update(_load_file(file))
    if not weights:
        raise Error(f"{place}: holds no packed weights; make some with `lutsmith quantize`")
    return dict(sorted(weights.items()))


def _load_file(path: Path) -> dict[str, PackedWeight]:
    try:
        with open(path, "rb") as file:
            # Private: torch wants memory that it may write to; nothing of it reaches the file.
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as failed:
        raise Error(f"{path}: cannot be mapped: {failed}") from failed
    try:
        return _weights_of(memory)
    except (ValueError, KeyError, TypeError, IndexError) as wrong:
        raise Error(f"{path}: is no intact safetensors file with packed weights: {wrong}") from wrong
    except Error as refused:
        raise Error(f"{path}: {refused}") from refused


def _weights_of(memory: mmap.mmap) -> dict[str, PackedWeight]:
    data_start = _LENGTH_BYTES + int.from_bytes(memory[:_LENGTH_BYTES], "little")
    if data_start > len(memory):
        raise ValueError("its header is longer than the file")
    header = json.loads(memory[_LENGTH_BYTES:data_start])
    metadata = header.get("__metadata__", {})
    if _METADATA_KEY not in metadata:
        other = [key for key in metadata if key.startswith(_ANY_VERSION)]
        if other:
            raise Error(f"its weights are in another version of the format, {other[0]}; quantize the checkpoint again")
        return {}

    def tensor(name: str) -> torch.Tensor:
        begin, end = header[name]["data_offsets"]
        if not 0 <= begin <= end <= len(memory) - data_start:
            raise ValueError(f"tensor {name} ends behind the file's end")
        return torch.frombuffer(memory, dtype=torch.uint8, count=end - begin, offset=data_start + begin)

    layers: dict[str, dict[str, Any]] = json.loads(metadata[_METADATA_KEY])
    return {
        name: PackedWeight(tensor(f"{name}.packed"), _format(layer, lambda name=name: tensor(f"{name}.table")).line)
        for name, layer in layers.items()
    }


def _format(layer: dict[str, Any], table: Callable[[], torch.Tensor]) -> formats.Format:
    """table: that of the file, which is none where rows have tables among the packed bytes."""
    group = layer["group"]
    return formats.Format(
        layer["bits"],
        0 if group == formats.CHANNEL else group,
        layer["n"],
        layer["k"],
        layer["dtype"],
        layer["table"],
        b"" if layer["table"] == formats.ROW else bytes(table().tolist()),
        layer.get("offsets", False) is True,
    )
