"""torch, or an error that says how to get it; every other module imports it from here."""

from __future__ import annotations

try:
    import torch
except ImportError as missing:
    raise ImportError(
        f"lutsmith multiplies tensors of torch 2.6 or later, which cannot be imported here ({missing}); "
        "install it: pip install 'torch>=2.6'. The command line, `python -m lutsmith`, needs none."
    ) from missing

__all__ = ["torch"]
