"""A foreign checkpoint as a folder that `AutoModelForCausalLM.from_pretrained` loads with packed weights."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers.quantizers.quantizers_utils import should_convert_module

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.checkpoints import gguf
from lutsmith.checkpoints.gguf_names import GgufNames, configuration, save_tokenizer
from lutsmith.checkpoints.layers import REQUANTIZED, Layer, Loss, Refused, pack
from lutsmith.checkpoints.loading import Line, Report
from lutsmith.checkpoints.reading import Item, items, open_checkpoint
from lutsmith.checkpoints.shards import Shards
from lutsmith.packed_weight import PackedWeight
from lutsmith.reordered import ReorderedWeight
from lutsmith.transformers import LutsmithConfig, linear_layers

__all__ = ["convert"]

_NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json", ".h5", ".msgpack", ".onnx")
_REPLACED = ("config.json", "quantize_config.json", "flute_config.json")
_SHARD_BYTES = 4 << 30


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    requantize: bool | Mapping[str, Any] = False,
    progress: bool = True,
    shard_bytes: int = _SHARD_BYTES,
) -> Report:
    """Writes the folder `target`; arguments are those of :func:`lutsmith.checkpoints.load`.

    One configuration holds for all layers: codes of one width and one type, the smallest group that any of them has
    (scales are repeated, which changes no weight) and, of layers that are quantized again, the same bits and group. If
    one has offsets beside its scales, those of the others are zeros; if one has reordered columns, so have the others,
    in the order of x.
    Embeddings and routers are written in 16 bits, and so is an output head whose codes cannot be carried over. Linear
    layers that are not quantized in `source` are not in `target`. Tokenizer and other small files are copied.

    shard_bytes: how large files become; so much is in memory.

    Returns: what became of each tensor.

    Raises:
        Error: as load, and where transformers has no module for a packed matrix. Then nothing is written.
    """
    place, folder = Path(source), Path(target)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Error(f"{folder}: exists and is no empty folder; give one that does not exist")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        report = _Conversion(place, dtype, requantize).write(work, progress, shard_bytes)
        _as_new_files_are(work)
        if folder.exists():
            folder.rmdir()
        os.replace(work, folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return report


class _Conversion:
    def __init__(self, source: Path, dtype: torch.dtype | None, requantize: bool | Mapping[str, Any]) -> None:
        self._checkpoint = open_checkpoint(source)
        self._items = items(self._checkpoint)
        self._folder = source if source.is_dir() else source.parent
        self._file = gguf.files(source)[0] if isinstance(self._checkpoint, gguf.Gguf) else None
        self._model = _skeleton(self._folder, self._file)
        self._names: GgufNames | None = None
        if isinstance(self._checkpoint, gguf.Gguf):
            assert self._file is not None
            self._names = GgufNames(self._file, self._checkpoint.architecture(), self._model)
        self._linear = linear_layers(self._model)
        self._parameters = {name for name, _ in self._model.named_parameters()}
        head = self._model.get_output_embeddings()
        self._head = next((name for name, module in self._linear.items() if module is head), None)
        self._defaults: list[Mapping[str, Any]] = []  # of the layers that cannot be carried over
        self._bits, self._group, self._offsets, self._reordered, self._dtype = self._plan(dtype)
        self._requantize = self._options(requantize)
        self._formats: dict[str, formats.Format] = {}  # of the layers that are packed

    def _name(self, item: Item) -> str | None:
        return item.name if self._names is None else self._names[item.name]

    def _module(self, item: Item) -> str | None:
        """The linear layer whose weight a quantized matrix is; None: its values are written in 16 bits."""
        name = self._name(item)
        if name is None:
            return None
        module = name.removesuffix(".weight")
        if module in self._linear:
            return module
        if name not in self._parameters:
            raise Error(
                f"{item.name}: {type(self._model).__name__} of transformers has no layer of that name to put it into, "
                "as where all experts are one parameter; lutsmith.checkpoints.load gives the matrices themselves"
            )
        return None

    def _plan(self, dtype: torch.dtype | None) -> tuple[int, int, bool, bool, torch.dtype]:
        """Bits, group, whether there are offsets, whether columns are reordered, and type of all layers."""
        bits: dict[int, str] = {}
        groups: list[int] = []
        offsets = reordered = False
        types: list[torch.dtype] = []
        for item in self._items:
            if item.layer is None or self._module(item) in (None, self._head):
                continue
            types.append(item.layer.dtype)
            try:
                planned = item.layer.planned()
            except Refused:
                self._defaults.append(item.layer.requantized)
                continue
            bits[planned.bits] = item.name
            groups.append(planned.group)
            offsets = offsets or planned.offsets
            reordered = reordered or planned.reordered
        if len(bits) > 1:
            listed = ", ".join(f"{width} bits ({name})" for width, name in sorted(bits.items()))
            raise Error(
                f"layers of {listed}: a model of transformers has codes of one width; lutsmith.checkpoints.load gives "
                "the matrices themselves"
            )
        if not types:
            raise Error(f"{self._folder}: no linear layer of it is quantized; LutsmithConfig quantizes such models")
        chosen = dtype or max(set(types), key=types.count)
        if chosen not in formats.DTYPE_NAMES:
            raise Error(f"dtype: {chosen} is not allowed; allowed: torch.float16, torch.bfloat16")
        some = [group for group in groups if group]
        return next(iter(bits), 0), min(some, default=0) if groups else -1, offsets, reordered, chosen

    def _options(self, requantize: bool | Mapping[str, Any]) -> bool | Mapping[str, Any]:
        given = dict(requantize) if isinstance(requantize, Mapping) else {}
        if self._group >= 0:
            required = {"bits": self._bits, "group": self._group}
            for key, value in required.items():
                if given.get(key, value) not in (value, formats.CHANNEL if value == 0 else value):
                    raise Error(
                        f"requantize: {key} {given[key]!r} given; the layers that are carried over have {value}"
                    )
            return {**given, **required} if requantize else False
        alike = self._defaults[0] if all(each == self._defaults[0] for each in self._defaults) else REQUANTIZED
        options = {**(REQUANTIZED if "method" in given else alike), **given}
        self._bits = options["bits"]
        self._group = 0 if options["group"] == formats.CHANNEL else options["group"]
        return options if requantize else False

    def write(self, folder: Path, progress: bool, shard_bytes: int) -> Report:
        report = Report()
        shards = Shards(folder, shard_bytes)
        with Line(len(self._items), progress) as line:
            for item in self._items:
                line.show(item.name)
                loss = self._write_item(item, shards)
                line.done(loss)
                report.losses.append(loss)
        shards.finish()
        self._write_configuration(folder)
        self._copy_others(folder)
        return report

    def _write_item(self, item: Item, shards: Shards) -> Loss:
        name = self._name(item)
        module = None if item.layer is None else self._module(item)
        if name is None:
            return Loss(item.name, "", "left out", note="transformers makes nothing of it")
        if item.layer is not None and module is not None and (module != self._head or self._fits(item.layer)):
            packed, loss = pack(item.layer, self._dtype, self._requantize, self._group)
            self._add_packed(item, module, packed, shards)
            return loss
        if item.layer is not None:
            values = item.layer.weights()
            loss = _in_16_bits(item.layer, values, self._dtype)
        else:
            values = item.tensor()
            loss = Loss(item.name, str(values.dtype).removeprefix("torch."), "kept")
        if self._names is not None:
            values = self._names.values(item.name, values)
        if name.endswith(".bias") and name not in self._parameters and not values.any():  # GPTQ's writers make one
            return Loss(item.name, "", "left out", note="zeros, which the model has no bias for")
        shards.add(name, self._stored(name, values))
        return loss

    def _fits(self, head: Layer) -> bool:
        """Whether an output head is carried over as the other layers are."""
        try:
            planned = head.planned()
        except Refused:
            return False
        return (
            planned.bits == self._bits
            and (planned.group == 0 or planned.group >= self._group > 0)
            and (self._offsets or not planned.offsets)
            and (self._reordered or not planned.reordered)
        )

    def _add_packed(self, item: Item, module: str, packed: PackedWeight | ReorderedWeight, shards: Shards) -> None:
        order = torch.arange(packed.shape[1], dtype=torch.int32) if self._reordered else None
        if isinstance(packed, ReorderedWeight):
            packed, order = packed.stored, packed.order
        rows = None if self._names is None else self._names.rows(item.name, packed.shape)
        if rows is not None or packed.has_offsets != self._offsets:
            codes, scales, offsets = packed.codes(), packed.scales(), packed.offsets()
            if offsets is None and self._offsets:
                offsets = torch.zeros_like(scales)
            chosen = slice(None) if rows is None else rows
            packed = PackedWeight.from_codes(
                codes[chosen],
                scales[chosen],
                packed.table,
                packed.group,
                packed.bits,
                None if offsets is None else offsets[chosen],
                packed.hadamard,
            )
        linear = self._linear[module]
        if packed.shape != (linear.out_features, linear.in_features):
            raise Error(
                f"{item.name}: {list(packed.shape)}, where the configuration has "
                f"[{linear.out_features}, {linear.in_features}]; it is of another model"
            )
        self._formats[module] = formats.known(packed.format)
        shards.add(f"{module}.weight", packed.data)
        if order is not None:
            shards.add(f"{module}.order", order)
        line = torch.frombuffer(bytearray(packed.format.encode()), dtype=torch.uint8)
        shards.add(f"{module}._extra_state", line)

    def _stored(self, name: str, values: torch.Tensor) -> torch.Tensor:
        if not values.is_floating_point():
            return values
        stored = values.to(self._dtype)
        if not torch.equal(torch.isfinite(stored), torch.isfinite(values)):
            raise Error(f"{name}: has numbers beyond the range of {self._dtype}; give dtype=torch.bfloat16")
        return stored

    def _write_configuration(self, folder: Path) -> None:
        config = self._model.config
        first = next(iter(self._formats.values()))
        others = [name for name in self._linear if name not in self._formats and name != self._head]
        lost = [name for name in self._formats if not should_convert_module(name, others)]
        if lost:
            raise Error(f"{lost[0]}: its name cannot be told from that of a layer that is not quantized")
        head_is_packed = self._head in self._formats
        if head_is_packed:
            config.tie_word_embeddings = False
        config.quantization_config = LutsmithConfig(
            bits=first.bits,
            group=first.group or formats.CHANNEL,
            table=first.table,
            modules_to_not_convert=others or None,
            lm_head=head_is_packed,
            dtype=self._dtype,
            offsets=self._offsets,
            reordered=self._reordered,
        )
        config.dtype = self._dtype
        config.architectures = [type(self._model).__name__]
        config.save_pretrained(folder)

    def _copy_others(self, folder: Path) -> None:
        if isinstance(self._checkpoint, gguf.Gguf):
            assert self._file is not None
            save_tokenizer(self._checkpoint.readers[0], self._file, folder)
            return
        for file in sorted(self._folder.iterdir()):
            wanted = file.is_file() and not file.name.startswith(".") and file.name not in _REPLACED
            if wanted and not file.name.endswith(_NOT_COPIED):
                shutil.copyfile(file, folder / file.name)


def _skeleton(folder: Path, file: Path | None) -> transformers.PreTrainedModel:
    """The model without weights. Raises Error where transformers does not know it."""
    if file is not None:
        config = configuration(file)
    else:
        try:
            config = transformers.AutoConfig.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as wrong:
            raise Error(f"{folder}: a config.json that transformers knows is needed: {wrong}") from wrong
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    kind = getattr(transformers, (config.architectures or [""])[0], None) or transformers.AutoModelForCausalLM
    with torch.device("meta"):
        try:
            return kind._from_config(config) if hasattr(kind, "_from_config") else kind.from_config(config)
        except ValueError as wrong:
            raise Error(f"{folder}: transformers has no model for it: {wrong}") from wrong


def _as_new_files_are(folder: Path) -> None:
    """Access as umask says; temporary folders, and files of safetensors, are their owner's alone."""
    umask = os.umask(0)
    os.umask(umask)
    for path in (folder, *folder.iterdir()):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def _in_16_bits(layer: Layer, values: torch.Tensor, dtype: torch.dtype) -> Loss:
    norm = float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2
    error = float(torch.linalg.vector_norm(values.to(dtype).float() - values, dtype=torch.float64)) ** 2
    note = "in 16 bits: no linear layer, or an output head that is not carried over"
    return Loss(layer.name, layer.format, "dequantized", norm, error, note)
