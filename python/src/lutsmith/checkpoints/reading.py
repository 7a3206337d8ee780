"""What is in a foreign checkpoint: its quantized matrices, and its other tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.checkpoints import bitsandbytes, compressed_tensors, flute, fp4, gguf, gptq
from lutsmith.checkpoints.layers import Layer
from lutsmith.checkpoints.tensors import Tensors

__all__ = ["Item", "items", "open_checkpoint"]

_EIGHT_BIT_FLOATS = "F8_"
_LEGACY = (".bin", ".pt", ".pth", ".ckpt")


class Item(NamedTuple):
    """A matrix that is quantized, or a tensor that is not (`layer` None)."""

    name: str
    layer: Layer | None
    tensor: Callable[[], torch.Tensor]


def open_checkpoint(path: str | os.PathLike[str]) -> Tensors | gguf.Gguf:
    """Raises Error where there is no checkpoint of safetensors or GGUF files."""
    place = Path(path)
    if not place.exists():
        raise Error(f"{place}: there is no such file or folder")
    if place.suffix in _LEGACY:
        raise Error(f"{place}: files of pickle are not read; save the model with save_pretrained, as safetensors")
    if place.name.endswith(".safetensors.index.json"):
        place = place.parent
    model = gguf.files(place)
    if model and not (place.is_dir() and any(place.glob("*.safetensors"))):
        return gguf.Gguf(model)
    return Tensors(place)


def items(checkpoint: Tensors | gguf.Gguf) -> list[Item]:
    """All of a checkpoint, in the order of their names; no data is read yet.

    Raises Error for tensors of formats that are not known here, naming the first.
    """
    found = _of_gguf(checkpoint) if isinstance(checkpoint, gguf.Gguf) else _of_safetensors(checkpoint)
    return sorted(found, key=lambda item: item.name)


def _of_gguf(checkpoint: gguf.Gguf) -> Iterator[Item]:
    for name in checkpoint:
        if checkpoint.is_plain(name):
            yield Item(name, None, lambda name=name: checkpoint.tensor(name))  # type: ignore[misc]
        else:
            for layer in checkpoint.layers(name):
                yield Item(layer.name, layer, layer.weights)


def _of_safetensors(tensors: Tensors) -> Iterator[Item]:
    config = tensors.quantization()
    if config.get("quant_method") == "lutsmith":
        raise Error(
            f"{tensors.folder}: its weights are packed already; load it with AutoModelForCausalLM.from_pretrained"
        )
    taken: set[str] = set()
    for layer, members in _layers(tensors, config):
        taken.update(members)
        yield Item(layer.name, layer, layer.weights)
    for name in tensors:
        if name not in taken:
            _check_plain(tensors, name)
            yield Item(name, None, lambda name=name: tensors[name])  # type: ignore[misc]


def _layers(tensors: Tensors, config: dict[str, Any]) -> Iterator[tuple[Layer, list[str]]]:
    """Each quantized matrix, with the tensors that belong to it."""
    for weight, members in bitsandbytes.find(tensors).items():
        yield bitsandbytes.BitsAndBytes(tensors, weight, members), members
    for module, members in gptq.find(tensors).items():
        yield gptq.layer(tensors, module, config), members
    for module, members in compressed_tensors.find(tensors).items():
        yield compressed_tensors.layer(tensors, module, config), members
    for module, members in flute.find(tensors).items():
        yield flute.Flute(tensors, module, config), members
    for name, members in fp4.stacks(tensors).items():
        blocks, scales = members
        experts = tensors.shape(blocks)[0] if len(tensors.shape(blocks)) == 4 else None
        if experts is None:
            yield fp4.Mxfp4(tensors, name, blocks, scales), members
        for expert in range(experts or 0):
            yield fp4.Mxfp4(tensors, f"{name}.{expert}", blocks, scales, expert), members
    for name in tensors:  # ModelOpt
        scale, whole = f"{name}_scale", f"{name}_scale_2"
        if tensors.type(name) == "U8" and whole in tensors and scale in tensors:
            others = [f"{name.removesuffix('weight')}input_scale"]
            yield fp4.Nvfp4(tensors, name, name, scale, whole, divides=False), [name, scale, whole, *others]


def _check_plain(tensors: Tensors, name: str) -> None:
    """Raises Error where a tensor would be read as a matrix without being one."""
    kind = tensors.type(name)
    if kind.startswith(_EIGHT_BIT_FLOATS):
        raise Error(f"{name}: an 8-bit float ({kind}); convert the model to BF16 first: weight times its scale")
    if name.endswith("weight") and len(tensors.shape(name)) == 2 and kind not in ("F64", "F32", "F16", "BF16"):
        raise Error(
            f"{name}: a matrix of type {kind} in no format that is known here; docs/checkpoints.md lists them. Give "
            "the 16-bit model to lutsmith.quantize or LutsmithConfig"
        )
