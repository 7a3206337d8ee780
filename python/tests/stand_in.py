"""A GPU that computes nothing: the project's stand-in for libcuda, which only records what it is asked.

Imported in a process that was started with the stand-in on LD_LIBRARY_PATH. Tensors of the CPU take the place of the
GPU's.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import NamedTuple

import torch

from lutsmith import _core, gpu

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


class Added(NamedTuple):
    """What the last launch was to add."""

    residual: int
    residual_stride: int
    bias: int


def last_added() -> Added:
    words = (ctypes.c_longlong * 13).from_address(_driver.fake_driver_parameter())
    return Added(words[10], words[11], words[12])


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


class _Tensor(ctypes.Structure):
    """DLPack's DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("dimensions", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_Read = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Tensor))
_CurrentStream = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))


class _Interface(ctypes.Structure):
    """DLPack's DLPackExchangeAPI."""

    _fields_ = [
        ("major_version", ctypes.c_uint32),
        ("minor_version", ctypes.c_uint32),
        ("older", ctypes.c_void_p),
        ("unused", ctypes.c_void_p * 3),
        ("read", _Read),
        ("current_stream", _CurrentStream),
    ]


_CPU = 1
_TYPES = {torch.uint8: (1, 8), torch.float16: (2, 16), torch.bfloat16: (4, 16), torch.float32: (2, 32)}
_alive: list[object] = []  # what C points to
current = {"stream": STREAM}
devices: dict[int, int] = {}  # of tensors that are not on the first, by their addresses


@_Read
def _read(tensor: torch.Tensor, read) -> int:
    code, bits = _TYPES[tensor.dtype]
    shape = (ctypes.c_int64 * tensor.dim())(*tensor.shape)
    strides = (ctypes.c_int64 * tensor.dim())(*tensor.stride())
    _alive.append((shape, strides))
    # Half of the address is the offset, for nobody but the sum to be right.
    data = tensor.data_ptr()
    device = devices.get(data, 0)
    read[0] = _Tensor(data - data // 2, _CPU, device, tensor.dim(), code, bits, 1, shape, strides, data // 2)
    return 0


@_CurrentStream
def _current_stream(device_type: int, device: int, stream) -> int:
    stream[0] = current["stream"]
    return 0


def exchange_tensors(major_version: int = 1, older: int | None = None) -> int:
    """Has the module read tensors by an interface as newer releases of torch offer it; the address of the interface."""
    interface = _Interface(major_version, 3, older, (ctypes.c_void_p * 3)(), _read, _current_stream)
    name = ctypes.c_char_p(b"dlpack_exchange_api")
    _alive.extend((interface, name))
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    gpu.exchanges_tensors = _core.exchange_tensors(new_capsule(ctypes.addressof(interface), name, None), _CPU)
    return ctypes.addressof(interface)


def empty(shape, strides, dtype):
    return torch.empty_strided(shape, strides, dtype=dtype, device="cpu")


gpu.empty = empty


def multiply(packed, x, batch_invariant: bool = False):
    """None where C leaves the product to Python."""
    return packed._format.core.multiply(x, packed.data, gpu.empty, packed.dtype, batch_invariant)


def launch(packed, x, y=None, stream: int = STREAM, batch_invariant: bool = False):
    if y is None:
        y = torch.empty((*x.shape[:-1], packed.n), dtype=x.dtype)
    gpu.launch(packed._format, 0, stream, x, packed.data, y, 0 if y.is_contiguous() else y.stride(0), batch_invariant)
    return y
