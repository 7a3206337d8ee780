"""Launches on GPUs, and what must be there before: a service, kernels, workspaces.

A launch is one look-up and one call of the module, on torch's current stream. Whatever is missing is made then, which
takes a compile; `prepare` makes it beforehand.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TextIO, Union

from lutsmith import _core, hadamard, toolchain
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.formats import Format, known
from lutsmith.packed_weight import PackedWeight
from lutsmith.reordered import ReorderedWeight

__all__ = ["Prepared", "launch", "prepare"]

_KERNEL_MISSING = 1
_THINGS_TO_MAKE = 2  # a kernel and a workspace
_ALIGNMENT = 16  # bytes, of the first row of x
_DLPACK_CUDA = 2
_STRIDE = 8  # elements, of which the distance of x's rows is a multiple

_lock = threading.Lock()
_service: object | None = None
_service_process = 0


def service() -> object:
    """This process's, opened when first wanted; a forked child opens its own."""
    global _service, _service_process
    with _lock:
        if _service is None or _service_process != os.getpid():
            _service = _core.open_service(toolchain.nvrtc())
            _service_process = os.getpid()
        return _service


def current_stream(device: int) -> int:
    """The handle of torch's current stream."""
    return torch.cuda.current_stream(device).cuda_stream


# What torch's own compiler calls: an int, without the object around it.
current_stream = getattr(torch._C, "_cuda_getCurrentRawStream", current_stream)


def _exchanges_tensors() -> bool:
    """Has the module read torch's tensors by itself, where this torch offers that (2.11, and perhaps 2.10)."""
    interface = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    return interface is not None and _core.exchange_tensors(interface, _DLPACK_CUDA)


#: Whether `Format.core.multiply` can do what it is for.
exchanges_tensors = _exchanges_tensors()


def empty(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """On the current device."""
    return torch.empty_strided(shape, strides, dtype=dtype, device="cuda")


# What torch's own compiler calls, at half the cost.
empty = getattr(getattr(torch._C, "_dynamo", None) and torch._C._dynamo.guards, "_empty_strided_cuda", empty)


# What else than its format a kernel is for, as the module in C counts it.
BATCH_INVARIANT, RESIDUAL, BIAS = 1, 2, 4
GATES = {"silu": 8, "gelu_tanh": 16}


def variant_of(
    batch_invariant: bool = False, bias: bool = False, residual: bool = False, gated: str | None = None
) -> int:
    """A kernel's variant; the inverse of `options_of`."""
    if gated is not None and gated not in GATES:
        raise Error(f"activation: {gated!r} is not allowed; allowed: {', '.join(map(repr, GATES))}")
    if gated is not None and (bias or residual):
        raise Error(f"gated: {gated!r} is not allowed beside a bias or a residual; allowed: gates alone")
    return (
        (BATCH_INVARIANT if batch_invariant else 0)
        | (RESIDUAL if residual else 0)
        | (BIAS if bias else 0)
        | (GATES[gated] if gated is not None else 0)
    )


def options_of(variant: int) -> dict[str, bool | str]:
    """The arguments of `prepare`, and fields of a spec, that name it."""
    options: dict[str, bool | str] = {}
    if variant & BATCH_INVARIANT:
        options["batch_invariant"] = True
    if variant & RESIDUAL:
        options["residual"] = True
    if variant & BIAS:
        options["bias"] = True
    for name, bit in GATES.items():
        if variant & bit:
            options["gated"] = name
    return options


def launch(
    format: Format,
    device: int,
    stream: int,
    x: torch.Tensor,
    weights: torch.Tensor,
    y: torch.Tensor,
    y_stride: int = 0,
    variant: int = 0,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> None:
    """Enqueues y = x W^T + bias + residual, or what else `variant` says. x [..., k] and y [..., n] as the operator has
    checked them; y as `can_write` wants it, with `y_stride` elements between its rows (0: n); a residual likewise."""
    k = format.k
    rows = x
    stride = k
    if x.is_contiguous():
        m = x.numel() // k
    else:
        rows = x.reshape(-1, k)
        m = rows.shape[0]
        if m > 1:
            stride = rows.stride(0)
        if rows.stride(1) != 1 or stride < k or stride % _STRIDE:
            rows, stride = rows.contiguous(), k
    if m == 0:
        return
    if rows.data_ptr() % _ALIGNMENT:
        rows, stride = rows.clone(memory_format=torch.contiguous_format), k
    added = (0, 0, 0)
    if bias is not None or residual is not None:
        residual_stride = 0 if residual is None or residual.is_contiguous() else residual.stride(0)
        added = (
            0 if residual is None else residual.data_ptr(),
            residual_stride,
            0 if bias is None else bias.data_ptr(),
        )
    given = (device, stream, rows.data_ptr(), weights.data_ptr(), y.data_ptr(), m, stride, y_stride, variant, *added)
    missing = format.core.launch(*given)
    for _ in range(_THINGS_TO_MAKE):
        if not missing:
            return
        _make(format, device, stream, m, variant, missing)
        missing = format.core.launch(*given)
    if missing:
        raise Error(f"what {m} tokens for {format.describe()} need was made and is not found: a bug, please report it")


def can_write(y: torch.Tensor) -> bool:
    """Whether a kernel can write to it where it is: rows at equal distances, of neighbouring elements."""
    return y.is_contiguous() or (y.dim() == 2 and y.stride(1) == 1 and y.stride(0) >= y.shape[1])


def _make(format: Format, device: int, stream: int, m: int, variant: int, missing: int) -> None:
    if _core.is_capturing(stream):
        if missing == _KERNEL_MISSING:
            kind = "batch-invariant kernel" if variant & BATCH_INVARIANT else "kernel"
            option = "".join(f", {name}={value!r}" for name, value in options_of(variant).items())
            raise Error(
                f"the {kind} of {m} tokens for {format.describe()} is not loaded, and nothing can be compiled while a "
                f"graph is captured; call lutsmith.prepare(model, tokens=[{m}]{option}) before"
            )
        raise Error(
            "a graph is captured on one more stream than workspaces were prepared for, and none can be allocated now; "
            f"call lutsmith.prepare(model, capture_streams={_core.count_workspaces(device, True) + 1}) before"
        )
    with torch.cuda.device(device):
        if missing == _KERNEL_MISSING:
            _allocating(lambda: format.core.load(service(), device, m, variant))
        else:
            _allocating(lambda: _core.add_workspace(service(), device, stream, False))


def _allocating(make: Callable[[], object]) -> None:
    """Where memory runs out, torch gives back what it only keeps, and `make` tries again."""
    try:
        make()
    except Error as failed:
        if failed.code != "out_of_memory":
            raise
        torch.cuda.empty_cache()
        make()


class Prepared(NamedTuple):
    """What `prepare` did."""

    kernels: int  #: ready now
    compiled: int  #: of them; the others were in the cache
    seconds: float


Weights = Union[PackedWeight, ReorderedWeight, torch.nn.Module, Mapping[str, "Weights"], Iterable["Weights"]]


def prepare(
    weights: Weights,
    tokens: Iterable[int] | None = None,
    device: torch.device | str | int | None = None,
    progress: bool = True,
    capture_streams: int = 1,
    batch_invariant: bool | None = None,
    *,
    bias: bool = False,
    residual: bool = False,
    gated: str | None = None,
) -> Prepared:
    """Gets every kernel that `weights` will want, so that no call compiles or allocates afterwards.

    Before a graph is captured it must have been called: nothing can be compiled during a capture.

    Args:
        weights: a module, whose packed weights are found; a PackedWeight; or several of either.
        tokens: numbers of tokens (rows of x) that calls will bring; numbers close to each other share a kernel. All
            that there are kernels for by default.
        device: the GPU; by default those that the weights are on. Weights on the CPU need no kernels.
        progress: shows one line on standard error while it works.
        capture_streams: streams on which graphs will be captured. Each takes a workspace (35 MB on an H100), which
            all graphs that are captured on it share: they must not run at the same time. torch.cuda.graph captures
            all graphs on one stream unless it is given another.
        batch_invariant: of products whose tokens do not depend on each other, for `matmul(..., batch_invariant=True)`.
            By default each module's own, and False for packed weights alone.
        bias, residual, gated: of packed weights that are multiplied by `matmul` with a bias, with a residual, or by
            `gated_matmul` with that activation: what the calls will bring. Modules know it of themselves.

    Returns:
        How many kernels are ready, and how many had to be compiled.

    Raises:
        Error: for the first kernel that cannot be made; where there is no compiler or no GPU, it says what to do. For
            `batch_invariant` other than what a module says of its own products.
    """
    start = time.monotonic()
    alone = variant_of(False, bias, residual, gated)
    wanted, transforms = _wanted(weights, tokens, device, batch_invariant, alone)
    compiled = 0
    for transform in transforms:
        hadamard.prepare(*transform)
    with _Progress(len(wanted), progress) as line:
        if wanted:
            opened = service()
            for used in dict.fromkeys(one.device for one in wanted):
                _prepare_workspaces(opened, used, capture_streams)

            def get(one: _Kernel) -> str:
                with torch.cuda.device(one.device):  # of this thread
                    return one.format.core.load(opened, one.device, one.tokens, one.variant)

            with ThreadPoolExecutor(max_workers=min(32, os.cpu_count() or 1)) as threads:
                for origin in threads.map(get, wanted):
                    compiled += origin == "compiled"
                    line.advance(compiled)
    return Prepared(len(wanted), compiled, time.monotonic() - start)


class _Kernel(NamedTuple):
    format: Format
    device: int
    tokens: int
    variant: int


def _wanted(
    weights: Weights,
    tokens: Iterable[int] | None,
    device: torch.device | str | int | None,
    batch_invariant: bool | None,
    alone: int,
) -> tuple[list[_Kernel], list[tuple[hadamard.Hadamard, torch.dtype, torch.device, bool]]]:
    """Every kernel once; and every transform of x, as `hadamard.prepare` takes it."""
    buckets = list(dict.fromkeys(map(_core.token_bucket, tokens))) if tokens is not None else all_buckets()
    places: dict[tuple[str, int, int], None] = {}
    transforms: dict[tuple[hadamard.Hadamard, torch.dtype, torch.device, bool], None] = {}
    for weight, variant in products(weights, batch_invariant, alone):
        place = (
            weight.device
            if device is None
            else torch.device("cuda", device)
            if isinstance(device, int)
            else torch.device(device)
        )
        if place.type == "cuda":
            index = place.index if place.index is not None else torch.cuda.current_device()
            places[(known(weight.format).plain.line, index, variant)] = None
            if weight.hadamard is not None:
                invariant = bool(variant & BATCH_INVARIANT)
                transforms[(weight.hadamard, weight.dtype, torch.device("cuda", index), invariant)] = None
    kernels = [_Kernel(known(line), index, m, variant) for line, index, variant in places for m in buckets]
    return kernels, list(transforms)


def all_buckets() -> list[int]:
    """One number of tokens for each kernel that numbers of tokens have."""
    buckets = [_core.token_bucket(1)]
    while (following := _core.token_bucket(buckets[-1] + 1)) > buckets[-1]:
        buckets.append(following)
    return buckets


def products(
    weights: Weights, batch_invariant: bool | None, alone: int = 0
) -> Iterator[tuple[PackedWeight, int]]:
    """All packed weights that are in there, and the variants of their products.

    Of a module those of every module below it that has `packed_weights()`, or `launched_weights()` where calls launch
    others; what such a module has as `batch_invariant`, `bias` and `gated` holds for its products, and what is given
    for the rest: `alone` for packed weights that are in no module.
    """
    if isinstance(weights, torch.nn.Module):
        for module in weights.modules():
            found = getattr(module, "launched_weights", None) or getattr(module, "packed_weights", None)
            if found is not None:
                biased = getattr(module, "bias", None) is not None
                variant = variant_of(_agreed(module, batch_invariant), biased, False, getattr(module, "gated", None))
                for weight in found():
                    yield weight, variant
    elif isinstance(weights, PackedWeight):
        yield weights, alone | (BATCH_INVARIANT if batch_invariant else 0)
    elif isinstance(weights, ReorderedWeight):
        yield from products(weights.stored, batch_invariant, alone)
    elif isinstance(weights, Mapping):
        yield from products(weights.values(), batch_invariant, alone)
    elif isinstance(weights, Iterable) and not isinstance(weights, (str, torch.Tensor)):
        for member in weights:
            yield from products(member, batch_invariant, alone)
    else:
        raise Error(f"weights: {type(weights).__name__} is not allowed; give modules or packed weights, or several")


def _agreed(module: torch.nn.Module, batch_invariant: bool | None) -> bool:
    own = getattr(module, "batch_invariant", None)
    if own is None or batch_invariant is None:
        return bool(own or batch_invariant)
    if own != batch_invariant:
        # Kernels that the module does not call would be made, and its own not.
        raise Error(
            f"batch_invariant: {batch_invariant} is not allowed, as a {type(module).__name__} of the model has {own}; "
            f"call lutsmith.nn.set_batch_invariant(model, {batch_invariant}) before, or leave the argument out"
        )
    return bool(own)


def _prepare_workspaces(opened: object, device: int, capture_streams: int) -> None:
    with torch.cuda.device(device):
        while _core.count_workspaces(device, True) < capture_streams:
            _allocating(lambda: _core.add_workspace(opened, device, 0, True))


class _Progress:
    """One line that is written over and over on a terminal; elsewhere only its end, and where there was work."""

    def __init__(self, kernels: int, wanted: bool, file: TextIO | None = None) -> None:
        self._kernels = kernels
        self._file = file or sys.stderr
        self._wanted = wanted and kernels > 0
        self._done = 0
        self._compiled = 0
        self._start = time.monotonic()

    def advance(self, compiled: int) -> None:
        self._done += 1
        self._compiled = compiled
        if self._wanted and self._file.isatty():
            self._write("\r", "")

    def _write(self, before: str, after: str) -> None:
        seconds = time.monotonic() - self._start
        self._file.write(
            f"{before}lutsmith: {self._done} of {self._kernels} kernels ready, {self._compiled} compiled, "
            f"{seconds:.0f} s{after}"
        )
        self._file.flush()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *failed: object) -> None:
        if self._wanted and (self._compiled or failed[0] or self._file.isatty()):
            self._write("\r" if self._file.isatty() else "", "\n")
