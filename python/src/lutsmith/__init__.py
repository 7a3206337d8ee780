"""Matrix products with look-up-table weights, by kernels that are compiled for the shape and GPU at hand.

    import torch, lutsmith

    packed = lutsmith.quantize(weight, method="nf", bits=4, group=64)   # weight [N, K], float16
    y = lutsmith.matmul(x, packed)                                      # x [..., K] -> y [..., N]

Importing the package loads no torch, so that the command line starts at once; the first use of a function does.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from lutsmith import _core
from lutsmith._core import Error

if TYPE_CHECKING:
    from lutsmith.calibration import calibrate
    from lutsmith.evaluation import evaluate
    from lutsmith.files import load
    from lutsmith.gpu import prepare
    from lutsmith.learning import learn_scales
    from lutsmith.operators import gated_matmul, matmul
    from lutsmith.packed_rows import concatenate, interleave_gate
    from lutsmith.packed_weight import PackedWeight, quantize
    from lutsmith.transformers import LutsmithConfig
    from lutsmith.warming import manifest

__version__: str = _core.version

__all__ = [
    "Error",
    "LutsmithConfig",
    "PackedWeight",
    "__version__",
    "calibrate",
    "concatenate",
    "evaluate",
    "gated_matmul",
    "interleave_gate",
    "learn_scales",
    "load",
    "manifest",
    "matmul",
    "prepare",
    "quantize",
]

_HOMES = {
    "LutsmithConfig": "lutsmith.transformers",
    "PackedWeight": "lutsmith.packed_weight",
    "calibrate": "lutsmith.calibration",
    "concatenate": "lutsmith.packed_rows",
    "evaluate": "lutsmith.evaluation",
    "gated_matmul": "lutsmith.operators",
    "interleave_gate": "lutsmith.packed_rows",
    "learn_scales": "lutsmith.learning",
    "load": "lutsmith.files",
    "manifest": "lutsmith.warming",
    "matmul": "lutsmith.operators",
    "prepare": "lutsmith.gpu",
    "quantize": "lutsmith.packed_weight",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lutsmith' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Whoever has torch already gets the operators with the import, as with other packages of operators.
if "torch" in sys.modules:
    importlib.import_module("lutsmith.operators")
