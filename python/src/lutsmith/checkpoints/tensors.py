"""Tensors of a folder of safetensors files, read one at a time."""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any, NamedTuple

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["Tensors"]

_LENGTH_BYTES = 8
_WHOLE = "model.safetensors"
_INDEX = f"{_WHOLE}.index.json"
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.uint8,  # its exponent, which torch has a type for from 2.7 on only
}


class _Place(NamedTuple):
    file: Path
    type: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Tensors:
    """The tensors of a file or folder by name: headers are read at once, data is mapped and read when it is used.

    The files must stay as they are for as long as tensors live.
    """

    def __init__(self, path: Path) -> None:
        """Raises Error where there is no such file, or where it is no safetensors file."""
        self.folder = path if path.is_dir() else path.parent
        self._memory: dict[Path, mmap.mmap] = {}
        self._places: dict[str, _Place] = {}
        for file in _files(path):
            for name, place in self._header(file).items():
                if name in self._places:
                    raise Error(
                        f"{file}: has tensor {name}, as {self._places[name].file} has; give one file of the two"
                    )
                self._places[name] = place

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Any:
        return iter(self._places)

    def type(self, name: str) -> str:
        """As the file's header says: "F16", "I32", ..."""
        return self._places[name].type

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].shape

    def __getitem__(self, name: str) -> torch.Tensor:
        """Over the mapped memory. Raises Error where there is none so called, or of an unknown type."""
        place = self._places.get(name)
        if place is None:
            raise Error(f"{self.folder}: tensor {name} is missing; the checkpoint is not whole")
        dtype = _TYPES.get(place.type)
        if dtype is None:
            raise Error(f"{place.file}: tensor {name} is of type {place.type}, which cannot be read here")
        if place.begin == place.end:
            return torch.empty(place.shape, dtype=dtype, device="cpu")
        raw = torch.frombuffer(
            self._memory[place.file], dtype=torch.uint8, count=place.end - place.begin, offset=place.begin
        )
        return raw.view(dtype).reshape(place.shape)

    def _header(self, file: Path) -> dict[str, _Place]:
        try:
            with open(file, "rb") as opened:
                # Private: torch wants memory that it may write to; nothing of it reaches the file.
                memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as failed:
            raise Error(f"{file}: cannot be mapped: {failed}") from failed
        self._memory[file] = memory
        try:
            data = _LENGTH_BYTES + int.from_bytes(memory[:_LENGTH_BYTES], "little")
            if data > len(memory):
                raise ValueError("its header is longer than the file")
            header = json.loads(memory[_LENGTH_BYTES:data])
            header.pop("__metadata__", None)
            return {name: _place(file, name, entry, data, len(memory)) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise Error(f"{file}: is no intact safetensors file: {wrong}") from wrong

    def quantization(self) -> dict[str, Any]:
        """What config.json, or GPTQ's or FLUTE's own file beside it, says of the quantization; {} without them."""
        own = ("quantize_config.json", "flute_config.json")
        for name, key in (("config.json", "quantization_config"), *((name, None) for name in own)):
            file = self.folder / name
            if not file.is_file():
                continue
            try:
                config = json.loads(file.read_text())
                found = config.get(key) if key else config
            except (ValueError, AttributeError) as wrong:
                raise Error(f"{file}: is no intact configuration: {wrong}") from wrong
            if isinstance(found, dict):
                return found
        return {}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    index = path / _INDEX
    if index.is_file():
        try:
            return sorted({path / name for name in json.loads(index.read_text())["weight_map"].values()})
        except (ValueError, KeyError, AttributeError, TypeError) as wrong:
            raise Error(f"{index}: is no intact index: {wrong}") from wrong
    if (path / _WHOLE).is_file():  # beside which some keep the same in another library's names (consolidated.*)
        return [path / _WHOLE]
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise Error(f"{path}: the folder has no *.safetensors and no *.gguf; save the model with save_pretrained")
    return files


def _place(file: Path, name: str, entry: dict[str, Any], data: int, size: int) -> _Place:
    begin, end = (data + int(offset) for offset in entry["data_offsets"])
    if not data <= begin <= end <= size:
        raise ValueError(f"tensor {name} ends behind the file's end")
    shape = tuple(int(length) for length in entry["shape"])
    dtype = _TYPES.get(entry["dtype"])
    if dtype is not None and end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor {name}, {entry['dtype']} {list(shape)}, has {end - begin} bytes")
    return _Place(file, entry["dtype"], shape, begin, end)
