"""What a model will want, for `lutsmith warm --manifest` on a machine without a GPU, such as an image's build."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lutsmith.formats import CHANNEL, DTYPE_NAMES, known
from lutsmith.gpu import Weights, options_of, products

__all__ = ["manifest"]


def manifest(
    weights: Weights, tokens: Iterable[int] | None = None, batch_invariant: bool | None = None
) -> list[dict[str, Any]]:
    """The kernels of `weights`, each once, as `lutsmith warm --manifest` reads them from JSON.

    Args:
        weights: a module, whose packed weights are found; a PackedWeight; or several of either. On any device.
        tokens: numbers of tokens that calls will bring; by default all, which `warm` fills in.
        batch_invariant: as for `prepare`.
    """
    kernels: dict[tuple[Any, ...], dict[str, Any]] = {}
    for weight, variant in products(weights, batch_invariant):
        format = known(weight.format)
        kernel = {
            "bits": format.bits,
            "group": format.group or CHANNEL,
            "n": format.n,
            "k": format.k,
            "dtype": DTYPE_NAMES[format.dtype],
            "table": format.table_kind,
        }
        kernel.update(options_of(variant))
        if format.offsets:
            kernel["offsets"] = True
        if format.segments:
            kernel["segment_rows"] = format.segment_rows
        kernels[tuple(kernel.items())] = kernel
    asked = {} if tokens is None else {"m": sorted(set(tokens))}
    return [{**kernel, **asked} for kernel in kernels.values()]
