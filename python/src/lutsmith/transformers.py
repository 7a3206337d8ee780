"""Packed weights in models of Hugging Face's transformers, version 5.5 or later.

``import lutsmith.transformers`` registers the quantizer by transformers' own hooks; nothing of transformers is
replaced. A model is then quantized while it loads, tensor by tensor::

    model = AutoModelForCausalLM.from_pretrained(path, quantization_config=LutsmithConfig(bits=4, group=64))
    model.save_pretrained(packed_path)
    model = AutoModelForCausalLM.from_pretrained(packed_path)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import transformers
from transformers.core_model_loading import ConversionOps
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.quantizers.quantizers_utils import get_module_from_name, should_convert_module
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.nn import Linear, fuse
from lutsmith.packed_weight import Group, PackedWeight, planned_format, quantize, scale_choice
from lutsmith.reordered import ReorderedWeight

__all__ = ["LutsmithConfig", "LutsmithQuantizer", "linear_layers", "untie"]

_METHOD = "lutsmith"
_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in formats.DTYPE_NAMES}
_BITS = (1, 2, 3, 4)  # what kernels multiply
# Of weights that no loading can make: "nfl" by lutsmith.learn_scales, "packed" in any other way.
_MADE_BEFORE = ("nfl", "packed")
_STAND_IN = "lloyd"  # for their tables until there are weights: it has every number of bits
# Rows of fewer bytes than a 16-byte load no kernel reads.
_COLUMNS_MULTIPLE = 8

_EXAMPLES = 8  # names in a message

# Layers that decide between others or between tokens lose more by quantization than their few bytes are worth. The
# command line leaves the same ones as they are (docs/checkpoints.md).
_HEADS = re.compile(r"(^|\.)(lm_head|embed_out|score|classifier|qa_outputs)$")
_ROUTERS = re.compile(r"(^|\.)(gate|wg|gating|shared_expert_gate)$|router")

logger = logging.get_logger(__name__)


@register_quantization_config(_METHOD)
class LutsmithConfig(QuantizationConfigMixin):
    """How the linear layers of a model are quantized: the ``quantization_config`` of ``from_pretrained``.

    Args:
        bits: bits of a code, 1 to 4.
        group: weights along a row that share a scale: 32, 64, 128, 256, or "channel" for one scale a row.
        method: the table: "nf", "int", "fp", "lloyd", "kmeans", "higgs" or "hqq", as for :func:`lutsmith.quantize`. Models
            that :func:`lutsmith.packed_models.put_packed` made have "nfl" or "packed", which quantize nothing: each layer
            brings its own table.
        table: ``2**bits`` values of a table of your own; then ``method`` has no effect. With "higgs" the kind of grid,
            "pair" or "scalar".
        modules_to_not_convert: names of modules that stay as they are, or regular expressions for them, read as
            transformers does: a name from its start ("model.layers.0") or to its end ("down_proj").
        lm_head: whether the output head is quantized too. Where it shares its weights with the embedding, the
            embedding stays as it is and the head no longer shares them.
        dtype: float16 or bfloat16, the type of what is multiplied; None: the type of the model. (A saved model's
            configuration has it.)
        batch_invariant: whether a token's products with these layers are the same, bit for bit, whatever tokens are
            beside it, as for :func:`lutsmith.matmul`. A saved model keeps it; where its configuration has none, False.
        fuse: whether q, k and v, and gate, up and their activation, take one launch each, as by
            :func:`lutsmith.nn.fuse` once the model is loaded. What cannot be fused is named in a warning. A saved model
            keeps the option, not the fused weights.
        scales: how a group's scale is chosen, "absmax", "mse" or "rms", as for :func:`lutsmith.quantize`.
        hadamard: the largest block of channels that a Hadamard transform may mix, as for :func:`lutsmith.quantize`; for
            every layer the largest one that its rows allow.
        seed: of the transform's signs, for all layers.
        modules: layers that have other bits or groups, by their whole names:
            ``{"model.layers.0.mlp.up_proj": {"bits": 3, "group": 32}}``; what is left out is as for all others. A plan
            of `lutsmith.planning` gives it.
        offsets: whether the packed weights have an offset beside each scale, as those of zero points, which
            :func:`lutsmith.checkpoints.convert` carries over. Of the methods only "hqq" makes them while a model loads.
        reordered: whether the packed layers have their columns in another order than x (`order` of
            :class:`lutsmith.nn.Linear`), as those of act-order, which :func:`lutsmith.checkpoints.convert` carries
            over.

    Raises:
        ValueError: for a value that is not allowed; the message says what is.
    """

    def __init__(
        self,
        bits: int = 4,
        group: Group = 64,
        method: str = "nf",
        table: Sequence[float] | str | None = None,
        modules_to_not_convert: Sequence[str] | None = None,
        lm_head: bool = False,
        dtype: str | torch.dtype | None = None,
        batch_invariant: bool = False,
        fuse: bool = False,
        scales: str | None = None,
        hadamard: int | None = None,
        seed: int = 0,
        modules: Mapping[str, Mapping[str, Any]] | None = None,
        offsets: bool = False,
        reordered: bool = False,
        **unknown: Any,
    ) -> None:
        unknown.pop("quant_method", None)
        if unknown:
            raise ValueError(
                f"LutsmithConfig has no {', '.join(sorted(unknown))}; it has bits, group, method, table, "
                "modules_to_not_convert, lm_head, dtype, batch_invariant, fuse, scales, hadamard, seed, modules, "
                "offsets and reordered"
            )
        self.quant_method = _METHOD
        self.bits = bits
        self.group = group
        self.method = method
        self.table = table if table is None or isinstance(table, str) else [float(value) for value in table]
        if isinstance(modules_to_not_convert, str):
            raise ValueError(
                "LutsmithConfig: modules_to_not_convert: one name is not allowed; allowed: a list of names"
            )
        self.modules_to_not_convert = None if modules_to_not_convert is None else list(modules_to_not_convert)
        self.lm_head = lm_head
        self.dtype = None if dtype is None else str(dtype).removeprefix("torch.")
        self.batch_invariant = batch_invariant
        self.fuse = fuse
        self.scales = scales
        self.hadamard = hadamard
        self.seed = seed
        self.modules = None if modules is None else {name: dict(each) for name, each in modules.items()}
        self.offsets = offsets
        self.reordered = reordered
        self._check()

    def _check(self) -> None:
        for option in ("batch_invariant", "fuse", "offsets", "reordered"):
            value = getattr(self, option)
            if not isinstance(value, bool):
                raise ValueError(f"LutsmithConfig: {option}: {value!r} is not allowed; allowed: True, False")
        if self.dtype is not None and self.dtype not in _TYPES:
            raise ValueError(f"LutsmithConfig: dtype: {self.dtype} is not allowed; allowed: {', '.join(_TYPES)}")
        self._check_format(None, "")
        for name, settings in (self.modules or {}).items():
            unknown = sorted(settings.keys() - {"bits", "group"})
            if unknown:
                raise ValueError(
                    f"LutsmithConfig: modules: {name}: {unknown[0]!r} is not allowed; allowed: bits, group"
                )
            self._check_format(name, f"modules: {name}: ")

    def _check_format(self, name: str | None, where: str) -> None:
        bits = self.settings_of(name)["bits"]
        if bits not in _BITS:
            raise ValueError(f"LutsmithConfig: {where}bits: {bits} is not allowed; allowed: 1, 2, 3, 4")
        try:
            self.format_of(out_features=_COLUMNS_MULTIPLE, in_features=_COLUMNS_MULTIPLE, dtype=torch.float16, name=name)
            scale_choice(self.table_method, self.table, self.scales)
        except Error as error:
            raise ValueError(f"LutsmithConfig: {where}{error}") from error

    @property
    def table_method(self) -> str:
        """The method whose table has as many values as the layers' own, which may be others."""
        return _STAND_IN if self.method in _MADE_BEFORE else self.method

    def settings_of(self, name: str | None) -> dict[str, Any]:
        """bits and group of a layer; None: of those that `modules` does not name."""
        own = (self.modules or {}).get(name or "", {})
        return {"bits": self.bits, "group": self.group, **own}

    def format_of(
        self, out_features: int, in_features: int, dtype: torch.dtype, name: str | None = None
    ) -> formats.Format:
        """The format of a layer's packed weight, ``[out_features, in_features]``; its name: as for `settings_of`."""
        settings = self.settings_of(name)
        format = planned_format(
            out_features,
            in_features,
            self.table_method,
            settings["bits"],
            settings["group"],
            self.table,
            dtype,
            self.hadamard,
            self.seed,
        )
        return format.with_offsets() if self.offsets and not format.offsets else format


@register_quantizer(_METHOD)
class LutsmithQuantizer(HfQuantizer):
    """Puts :class:`lutsmith.nn.Linear` where a model has ``torch.nn.Linear``, and packs weights as they arrive."""

    quantization_config: LutsmithConfig
    requires_calibration = False

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        config = self.quantization_config
        wanted = _TYPES.get(config.dtype or "")
        if wanted is None:
            wanted = dtype if dtype in _TYPES.values() else torch.bfloat16
        if dtype == wanted:
            pass
        elif self.pre_quantized and dtype != torch.float32:
            raise ValueError(
                f"dtype={dtype} given, but the model's weights are packed for {wanted}: load it with "
                f"dtype={wanted}, or quantize the original model with dtype={dtype}"
            )
        else:
            logger.warning(f"lutsmith: the model is loaded in {wanted} instead of {dtype}, which no kernel multiplies")
        config.dtype = str(wanted).removeprefix("torch.")
        return wanted

    def _process_model_before_weight_loading(self, model: transformers.PreTrainedModel, **kwargs: Any) -> None:
        if getattr(model.config, "distributed_config", None) is not None:
            raise ValueError(
                "lutsmith: transformers cannot split packed weights: load the model without tp_plan and "
                "distributed_config"
            )
        config = self.quantization_config
        if config.method in _MADE_BEFORE and not self.pre_quantized:
            raise ValueError(
                f"lutsmith: method {config.method!r} quantizes nothing while a model loads; lutsmith.learn_scales learns "
                "scales of a loaded one, and lutsmith.packed_models.put_packed takes any packed weights"
            )
        if config.offsets and not self.pre_quantized:
            raise ValueError(
                "LutsmithConfig: offsets: True is not allowed for a model that is not packed yet; allowed: False. "
                "Method \"hqq\" makes them without"
            )
        if config.reordered and not self.pre_quantized:
            raise ValueError(
                "LutsmithConfig: reordered: True is not allowed for a model that is not packed yet; allowed: False. "
                "lutsmith.checkpoints.convert makes such models of checkpoints with act-order"
            )
        left = _Left()
        self._check_patterns(model)
        layers = list(self._layers(model, left))
        self._check_modules({name for name, _ in layers})
        if not layers:
            raise ValueError(f"lutsmith: {type(model).__name__} has no layer to quantize{left.reasons()}")
        if not self.pre_quantized and left:
            logger.warning(f"lutsmith: these stay in {config.dtype}{left.reasons()}")
        for name, linear in layers:
            model.set_submodule(name, self._skeleton(name, linear))
        self._untied = untie(model, {f"{name}.weight" for name, _ in layers})

    def _process_model_after_weight_loading(self, model: transformers.PreTrainedModel, **kwargs: Any) -> Any:
        if self.quantization_config.fuse:
            left = _Left()
            for name, reason in fuse(model).apart.items():
                left.add(name, reason)
            if left:
                logger.warning(f"lutsmith: these take a launch for each member{left.reasons()}")
        return model

    def _layers(self, model: transformers.PreTrainedModel, left: _Left) -> Iterator[tuple[str, torch.nn.Linear]]:
        """The layers to quantize; what might have been one but cannot be is added to `left`."""
        config = self.quantization_config
        head = model.get_output_embeddings()
        unwanted = [*(config.modules_to_not_convert or []), *(model._keep_in_fp32_modules or [])]
        for name, module in model.named_modules():
            if not should_convert_module(name, unwanted):
                continue
            is_head = module is head or _HEADS.search(name) is not None
            if (is_head and not config.lm_head) or _ROUTERS.search(name):
                continue
            if type(module) is torch.nn.Linear:
                if module.in_features % _COLUMNS_MULTIPLE == 0:
                    yield name, module
                else:
                    left.add(name, f"{module.in_features} columns are no multiple of {_COLUMNS_MULTIPLE}")
            elif not isinstance(module, torch.nn.Embedding):
                matrices = [key for key, value in module.named_parameters(recurse=False) if value.dim() >= 2]
                if matrices:
                    left.add(name, f"{type(module).__name__} with {', '.join(matrices)} is no torch.nn.Linear")

    def _check_patterns(self, model: transformers.PreTrainedModel) -> None:
        names = [name for name, _ in model.named_modules()]
        for pattern in self.quantization_config.modules_to_not_convert or []:
            if all(should_convert_module(name, [pattern]) for name in names):
                linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
                raise ValueError(
                    f"lutsmith: modules_to_not_convert names {pattern!r}, but no module of {type(model).__name__} is "
                    f"called so; its linear layers are {', '.join(linear[:_EXAMPLES])}, ..."
                )

    def _check_modules(self, names: set[str]) -> None:
        for name in self.quantization_config.modules or {}:
            if name not in names:
                raise ValueError(
                    f"lutsmith: modules names {name!r}, which is no layer that is quantized; these are "
                    f"{', '.join(sorted(names)[:_EXAMPLES])}, ..."
                )

    def _skeleton(self, name: str, linear: torch.nn.Linear) -> Linear:
        """The module without weights; they are on the meta device."""
        dtype = _TYPES[self.quantization_config.dtype]
        format = self.quantization_config.format_of(linear.out_features, linear.in_features, dtype, name)
        data = torch.empty(format.packed_bytes, dtype=torch.uint8, device="meta")
        packed: PackedWeight | ReorderedWeight = PackedWeight(data, format.line)
        if self.quantization_config.reordered:
            packed = ReorderedWeight(packed, torch.empty(format.k, dtype=torch.int32, device="meta"))
        skeleton = Linear(packed, linear.bias, self.quantization_config.batch_invariant)
        if not self.pre_quantized:  # transformers converts what it reads to the type it sees here
            skeleton.weight = torch.empty(format.n, format.k, dtype=dtype, device="meta")
        return skeleton

    def param_needs_quantization(self, model: transformers.PreTrainedModel, param_name: str, **kwargs: Any) -> bool:
        if param_name in self._untied:
            return True
        module, name = get_module_from_name(model, param_name)
        return isinstance(module, Linear) and name == "weight"

    def param_element_size(self, model: transformers.PreTrainedModel, param_name: str, param: torch.Tensor) -> float:
        # Of a skeleton's weight, for device maps.
        module, _ = get_module_from_name(model, param_name)
        if not self.pre_quantized and self.param_needs_quantization(model, param_name) and isinstance(module, Linear):
            return formats.known(module.format).packed_bytes / param.numel()
        return param.element_size()

    def get_quantize_ops(self) -> ConversionOps:
        return _Quantize(self)

    def _dequantize(self, model: transformers.PreTrainedModel, dtype: torch.dtype | None = None) -> Any:
        if isinstance(dtype, str):  # as a saved model's configuration has it
            dtype = getattr(torch, dtype)
        for name, module in list(model.named_modules()):
            if isinstance(module, Linear):
                model.set_submodule(name, module.to_linear(dtype))
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False

    @property
    def is_compileable(self) -> bool:
        return True


def linear_layers(model: transformers.PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """The layers that a quantizer packs unless a configuration says otherwise, output heads included, by name."""
    return dict(LutsmithQuantizer(LutsmithConfig(lm_head=True))._layers(model, _Left()))


class _Quantize(ConversionOps):
    """From a layer's weight as the checkpoint has it to its packed bytes; transformers calls it layer by layer."""

    def __init__(self, quantizer: LutsmithQuantizer) -> None:
        self.quantizer = quantizer

    def convert(
        self,
        input_dict: dict[str, Any],
        model: transformers.PreTrainedModel | None = None,
        missing_keys: set[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        converted = {}
        for name, value in input_dict.items():
            weight = value[0] if isinstance(value, list) else value
            targets = self.quantizer._untied.get(name)
            if targets is None:
                targets = [name]
            else:  # an embedding, and the heads that shared its weights
                converted[name] = weight
            for target in targets:
                converted[target] = self._pack(weight, target, model)
                if missing_keys is not None:
                    missing_keys.discard(target.removesuffix("weight") + "_extra_state")
        return converted

    def _pack(self, weight: torch.Tensor, name: str, model: Any) -> torch.Tensor:
        config = self.quantizer.quantization_config
        module, _ = get_module_from_name(model, name)
        packed = quantize(
            weight,
            method=config.method,
            **config.settings_of(name.removesuffix(".weight")),
            table=config.table,
            dtype=_TYPES[config.dtype],
            scales=config.scales,
            hadamard=config.hadamard,
            seed=config.seed,
        )
        module.set_extra_state(packed.format)
        return packed.data


class _Left:
    """What is not quantized though it has a matrix, for messages; layers of the same kind are counted."""

    def __init__(self) -> None:
        self._kinds: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, reason: str) -> None:
        self._kinds[re.sub(r"\.\d+(?=\.|$)", ".*", name), reason] += 1

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def reasons(self) -> str:
        return "".join(f"\n  {name} ({count}): {reason}" for (name, reason), count in self._kinds.items())


def untie(model: transformers.PreTrainedModel, packed: set[str]) -> dict[str, list[str]]:
    """Ends the sharing of weights that are to be packed with others that are not.

    Returns: for each parameter that was shared, the packed ones that are to be made of it.
    """
    untied: dict[str, list[str]] = {}
    tied = model.all_tied_weights_keys
    for target, source in list(tied.items()):
        if target in packed:
            del tied[target]
            untied.setdefault(source, []).append(target)
    if untied:
        # Else transformers would tie them again when the saved model is loaded.
        model.config.tie_word_embeddings = False
        model.config.get_text_config(decoder=True).tie_word_embeddings = False
    return untied
