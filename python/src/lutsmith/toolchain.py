"""Which NVRTC compiles kernels: the one of torch's wheels, so that `pip install` alone gives a compiler."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

__all__ = ["nvrtc"]

# Since CUDA 13 NVIDIA's wheels share a folder; before, each had its own.
_FOLDERS = ("cu[0-9]*/lib", "cuda_nvrtc/lib")


def nvrtc() -> str | None:
    """The folder of this environment's NVRTC wheel, the newest where there are several.

    None where there is no such wheel, or where LUTSMITH_NVRTC names a compiler: then the library finds it.
    """
    if os.environ.get("LUTSMITH_NVRTC"):
        return None
    spec = importlib.util.find_spec("nvidia")
    for pattern in _FOLDERS:
        for packages in (spec.submodule_search_locations or ()) if spec else ():
            for folder in sorted(Path(packages).glob(pattern), reverse=True):
                if any(folder.glob("libnvrtc.so*")):
                    return str(folder)
    return None
