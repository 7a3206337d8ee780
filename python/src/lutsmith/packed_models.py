"""Models of transformers whose packed weights were made in any way, as if they had been loaded with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import transformers
from transformers.quantizers.quantizers_utils import should_convert_module

from lutsmith import formats
from lutsmith._torch import torch
from lutsmith.nn import Linear
from lutsmith.packed_weight import PackedWeight
from lutsmith.reordered import ReorderedWeight
from lutsmith.transformers import LutsmithConfig, LutsmithQuantizer, linear_layers, untie

__all__ = ["put_packed"]


def put_packed(
    model: transformers.PreTrainedModel, packed: Mapping[str, PackedWeight | ReorderedWeight], method: str = "packed"
) -> transformers.PreTrainedModel:
    """Puts packed weights in the places of a model's linear layers, so that it is as if it had been loaded with them.

    `save_pretrained` writes it and `from_pretrained` loads it, whatever tables, bits and groups its layers have.

    Args:
        model: of 16 or 32 bits; changed in place. What is not packed is converted to the weights' type.
        packed: by the names of the layers, all of one type. Layers that are not named stay as they are. If some are
            reordered, the layers of the others get the order of x.
        method: what the configuration says of their making: "packed" or, for learned scales, "nfl".

    Returns: the model.

    Raises:
        ValueError: where a name is no linear layer's or a shape is another one, and for weights of several types.
    """
    linear = linear_layers(model)
    orders = {name: each.order for name, each in packed.items() if isinstance(each, ReorderedWeight)}
    stored = {name: each.stored if isinstance(each, ReorderedWeight) else each for name, each in packed.items()}
    dtypes = {each.dtype for each in stored.values()}
    if len(dtypes) != 1:
        raise ValueError(
            f"lutsmith: packed: {len(dtypes)} types of weights are not allowed; allowed: one, float16 or bfloat16"
        )
    for name, weight in stored.items():
        shape = tuple(linear[name].weight.shape) if name in linear else None
        if shape != weight.shape:
            raise ValueError(
                f"lutsmith: packed: {name} {list(weight.shape)} is not allowed; allowed: names and shapes of the "
                f"linear layers of {type(model).__name__}, such as {next(iter(linear))}"
            )
    head = next((name for name, each in linear.items() if each is model.get_output_embeddings()), None)
    settings = {name: (each.bits, each.group or formats.CHANNEL) for name, each in stored.items()}
    (bits, group), _ = Counter(settings.values()).most_common(1)[0]
    others = [name for name in linear if name not in packed and name != head]
    lost = [name for name in packed if not should_convert_module(name, others)]
    if lost:
        raise ValueError(f"lutsmith: packed: {lost[0]}: its name cannot be told from that of a layer that is left out")
    (dtype,) = dtypes
    config = LutsmithConfig(
        bits=bits,
        group=group,
        method=method,
        modules_to_not_convert=others or None,
        lm_head=head in packed,
        dtype=dtype,
        modules={name: {"bits": own[0], "group": own[1]} for name, own in settings.items() if own != (bits, group)}
        or None,
        reordered=bool(orders),
    )
    for (
        parameter
    ) in model.parameters():  # not model.to(): it would round rotary frequencies too, which loading does not
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for name, weight in stored.items():
        own: PackedWeight | ReorderedWeight = weight
        if orders:
            own = ReorderedWeight(weight, orders.get(name, torch.arange(weight.k)))
        model.set_submodule(name, Linear(own.to(linear[name].weight.device), linear[name].bias))
    untie(model, {f"{name}.weight" for name in packed})
    model.hf_quantizer = LutsmithQuantizer(config, pre_quantized=True)
    model.config.quantization_config = config
    model.config._is_quantized = True  # as from_pretrained leaves it
    return model
