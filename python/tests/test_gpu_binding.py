"""What the operator computes is what the C++ library's launch computes, bit for bit.

Needs a GPU, and liblutsmith.so of the same build in LUTSMITH_TEST_LIBRARY, which scripts/test-python sets.
"""

from __future__ import annotations

import ctypes
import os

import pytest
import torch

import lutsmith
from lutsmith import toolchain
from reference import random_weight

LIBRARY = os.environ.get("LUTSMITH_TEST_LIBRARY")

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
    pytest.mark.skipif(not LIBRARY, reason="LUTSMITH_TEST_LIBRARY names no library"),
]

c_int, c_size, c_text, c_pointer = ctypes.c_int64, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p


class Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size),
        ("cache_directory", c_text),
        ("nvrtc", c_text),
        ("compile", c_text),
        ("memory_only", ctypes.c_int32),
        ("compile_jobs", ctypes.c_uint32),
    ]


class Spec(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size),
        ("bits", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("n", c_int),
        ("k", c_int),
        ("m", c_int),
        ("dtype", c_text),
        ("table", c_text),
        ("target", c_text),
    ]


class Arguments(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size),
        ("weights_format", ctypes.POINTER(Spec)),
        ("weights", c_pointer),
        ("weights_bytes", c_size),
        ("activations", c_pointer),
        ("output", c_pointer),
        ("table", c_pointer),
        ("table_length", c_size),
        ("m", c_int),
        ("activation_stride", c_int),
        ("output_stride", c_int),
        ("partitions", ctypes.c_int32),
    ]


class CInterface:
    """A launch by lutsmith.h, as C programs write it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._library.lutsmith_error_message.restype = c_text
        nvrtc = toolchain.nvrtc()
        options = Options(ctypes.sizeof(Options), None, nvrtc.encode() if nvrtc else None, None, 0, 0)
        self._service = c_pointer()
        self._workspace = c_pointer()
        self._call("lutsmith_open", ctypes.byref(options), ctypes.byref(self._service))
        self._call("lutsmith_workspace_create", self._service, ctypes.byref(self._workspace))

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        assert status == 0, self._library.lutsmith_error_message()

    def matmul(self, x: torch.Tensor, packed: lutsmith.PackedWeight) -> torch.Tensor:
        dtype = b"f16" if packed.dtype == torch.float16 else b"bf16"
        spec = Spec(
            ctypes.sizeof(Spec), packed.bits, packed.group, packed.n, packed.k, x.shape[0], dtype, b"scalar", None
        )
        kernel = c_pointer()
        self._call("lutsmith_get", self._service, ctypes.byref(spec), ctypes.byref(kernel))
        table = torch.tensor(packed.table).to(packed.dtype)
        y = torch.empty(x.shape[0], packed.n, dtype=x.dtype, device=x.device)
        arguments = Arguments(
            ctypes.sizeof(Arguments),
            ctypes.pointer(spec),
            packed.data.data_ptr(),
            packed.nbytes,
            x.data_ptr(),
            y.data_ptr(),
            table.data_ptr(),
            table.numel(),
        )
        stream = c_pointer(torch.cuda.current_stream().cuda_stream)
        self._call("lutsmith_launch", kernel, ctypes.byref(arguments), self._workspace, stream)
        torch.cuda.synchronize()
        self._library.lutsmith_kernel_free(kernel)
        return y


@pytest.fixture(scope="module")
def library() -> CInterface:
    torch.cuda.init()
    return CInterface()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_operator_and_library_are_equal_to_the_bit(library, dtype, bits):
    packed = lutsmith.quantize(random_weight(4096, 4096, dtype), bits=bits, group=128).cuda()
    for tokens in (1, 2, 8, 16, 32, 64, 128, 300):
        x = torch.randn(tokens, 4096, device="cuda").to(dtype)
        assert torch.equal(lutsmith.matmul(x, packed), library.matmul(x, packed)), tokens
