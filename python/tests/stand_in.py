"""A GPU that computes nothing: the project's stand-in for libcuda, which only records what it is asked.

Imported in a process that was started with the stand-in on LD_LIBRARY_PATH. Tensors of the CPU take the place of the
GPU's.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import NamedTuple

import torch

from lutsmith import gpu

_driver = ctypes.CDLL("libcuda.so.1")
_driver.fake_driver_parameter.restype = ctypes.c_void_p
_driver.fake_driver_stream.restype = ctypes.c_void_p

# There is one device, whose context is always current; torch's own runtime is kept out.
torch.cuda.device = lambda index: contextlib.nullcontext()
torch.cuda.empty_cache = lambda: None
torch.cuda.current_device = lambda: 0

STREAM = 0x1000
OTHER_STREAM = 0x2000


class Launch(NamedTuple):
    """What the last launch brought."""

    weights: int
    x: int
    y: int
    x_stride: int
    y_stride: int
    tokens: int
    stream: int


def last_launch() -> Launch:
    words = (ctypes.c_longlong * 8).from_address(_driver.fake_driver_parameter())
    return Launch(words[0], words[1], words[2], words[5], words[6], words[7] & 0xFFFFFFFF, _driver.fake_driver_stream())


def launches() -> int:
    return _driver.fake_driver_launches()


def allocations() -> int:
    return _driver.fake_driver_allocations()


@contextlib.contextmanager
def capture(stream: int = STREAM):
    """As torch.cuda.graph captures what is put on a stream."""
    graph = ctypes.c_void_p()
    _driver.cuStreamBeginCapture_v2(ctypes.c_void_p(stream), 1)
    try:
        yield
    finally:
        _driver.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))


def launch(packed, x, y=None, stream: int = STREAM):
    if y is None:
        y = torch.empty((*x.shape[:-1], packed.n), dtype=x.dtype)
    gpu.launch(packed._format, 0, stream, x, packed.data, y, 0 if y.is_contiguous() else y.stride(0))
    return y
