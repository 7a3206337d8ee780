"""The operators of torch: lutsmith::matmul, lutsmith::matmul_out and lutsmith::hadamard.

Their arguments are plain data: tensors, a line of text and a switch. So they can be compiled, exported and captured,
and what was exported runs in another process. Importing this module registers them; `import lutsmith` does so too where
torch is imported already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from lutsmith import formats, gpu
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.hadamard import Hadamard, transform
from lutsmith.packed_weight import PackedWeight, check_data, dequantize_rows

__all__ = ["matmul"]

#: Weights that the CPU turns into numbers at a time: 16 MB of floats.
_CPU_WEIGHTS_AT_ONCE = 1 << 22
_PANEL_ROWS = 32

_library = torch.library.Library("lutsmith", "DEF")
_library.define(
    "matmul(Tensor x, Tensor weights, str format, Tensor? bias=None, bool batch_invariant=False) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    "hadamard(Tensor x, int block, int seed, bool batch_invariant=False) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    "matmul_out(Tensor x, Tensor weights, str format, Tensor? bias, Tensor(a!) out, bool batch_invariant=False) -> ()",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _check(x: torch.Tensor, weights: torch.Tensor, format: formats.Format, bias: torch.Tensor | None) -> None:
    if x.dtype != format.dtype:
        what_to_do = "convert x with .to()"
        if x.dtype in formats.DTYPE_NAMES:
            what_to_do += f", or quantize with dtype={x.dtype}"
        raise Error(f"x: {x.dtype} is not allowed; the weights are for {format.dtype}: {what_to_do}")
    if x.dim() == 0 or x.shape[-1] != format.k:
        raise Error(
            f"x: shape {tuple(x.shape)} is not allowed; allowed: [..., {format.k}], as the weights are "
            f"{format.n}x{format.k}"
        )
    if weights.device != x.device:
        raise Error(f"weights: they are on {weights.device}, x on {x.device}; move one of the two")
    if bias is not None and (bias.shape != (format.n,) or bias.dtype != x.dtype or bias.device != x.device):
        raise Error(
            f"bias: {bias.dtype} {tuple(bias.shape)} on {bias.device} is not allowed; allowed: {x.dtype} ({format.n},) "
            f"on {x.device}"
        )


def _check_out(out: torch.Tensor, x: torch.Tensor, format: formats.Format) -> None:
    expected = (*x.shape[:-1], format.n)
    if out.shape != expected or out.dtype != x.dtype or out.device != x.device:
        raise Error(
            f"out: {out.dtype} {tuple(out.shape)} on {out.device} is not allowed; allowed: {x.dtype} {tuple(expected)} "
            f"on {x.device}"
        )


def _matmul_fake(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None = None,
    batch_invariant: bool = False,
) -> torch.Tensor:
    known = formats.known(format)
    _check(x, weights, known, bias)
    return x.new_empty((*x.shape[:-1], known.n))


def _matmul_out_fake(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    batch_invariant: bool = False,
) -> None:
    known = formats.known(format)
    _check(x, weights, known, bias)
    _check_out(out, x, known)


def _matmul_cpu(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None = None,
    batch_invariant: bool = False,
) -> torch.Tensor:
    """Dequantizes some rows at a time and multiplies in float32; the sums are rounded once, with the bias.

    `batch_invariant` chooses among kernels, of which there are none here.
    """
    known = formats.known(format)
    _check(x, weights, known, bias)
    check_data(weights, known)
    if known.hadamard is not None:
        x, known = transform(x.detach(), known.hadamard), known.plain
    tokens = x.detach().reshape(-1, known.k).to(torch.float32)
    product = torch.empty((tokens.shape[0], known.n), dtype=torch.float32, device="cpu")
    at_once = max(1, _CPU_WEIGHTS_AT_ONCE // known.k // _PANEL_ROWS) * _PANEL_ROWS
    for first in range(0, known.n, at_once):
        rows = min(at_once, known.n - first)
        some = dequantize_rows(weights, known, first, rows, torch.float32)
        torch.mm(tokens, some.t(), out=product[:, first : first + rows])
    if bias is not None:
        product += bias.detach()
    return product.to(x.dtype).reshape(*x.shape[:-1], known.n)


def _matmul_out_cpu(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    batch_invariant: bool = False,
) -> None:
    _check_out(out, x, formats.known(format))
    out.copy_(_matmul_cpu(x, weights, format, bias))


def _matmul_cuda(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None = None,
    batch_invariant: bool = False,
) -> torch.Tensor:
    known = formats.known(format)
    if bias is not None or known.hadamard is not None:
        _check(x, weights, known, bias)
    if known.hadamard is not None:
        x, known = transform(x, known.hadamard, batch_invariant), known.plain
    y = None
    if gpu.exchanges_tensors:
        y = known.core.multiply(x, weights, gpu.empty, known.dtype, batch_invariant)
    if y is None:
        y = _matmul_by_steps(x, weights, known, batch_invariant)
    return y if bias is None else y.add_(bias)


def _matmul_by_steps(
    x: torch.Tensor, weights: torch.Tensor, known: formats.Format, batch_invariant: bool
) -> torch.Tensor:
    """What `multiply` leaves to Python: all where C cannot read torch's tensors, else what is more than a launch."""
    shape = x.shape
    device = x.get_device()
    # Whatever goes together in nearly every call; the messages are for the rest.
    if not (
        x.dtype is known.dtype
        and shape
        and shape[-1] == known.k
        and weights.numel() == known.packed_bytes
        and weights.dtype is torch.uint8
        and weights.get_device() == device
        and weights.is_contiguous()
    ):
        _check(x, weights, known, None)
        check_data(weights, known)
    y = x.new_empty((*shape[:-1], known.n))
    gpu.launch(known, device, gpu.current_stream(device), x, weights, y, batch_invariant=batch_invariant)
    return y


def _matmul_out_cuda(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    batch_invariant: bool = False,
) -> None:
    known = formats.known(format)
    _check_out(out, x, known)
    if not gpu.can_write(out):
        out.copy_(_matmul_cuda(x, weights, format, bias, batch_invariant))
        return
    _check(x, weights, known, bias)
    check_data(weights, known)
    if known.hadamard is not None:
        x, known = transform(x, known.hadamard, batch_invariant), known.plain
    device = x.get_device()
    y_stride = 0 if out.is_contiguous() else out.stride(0)
    gpu.launch(known, device, gpu.current_stream(device), x, weights, out, y_stride, batch_invariant)
    if bias is not None:
        out.add_(bias)


def _hadamard(x: torch.Tensor, block: int, seed: int, batch_invariant: bool = False) -> torch.Tensor:
    return transform(x, Hadamard(block, seed), batch_invariant)


def _hadamard_fake(x: torch.Tensor, block: int, seed: int, batch_invariant: bool = False) -> torch.Tensor:
    return x.new_empty(x.shape)


_library.impl("hadamard", _hadamard, "CPU")
_library.impl("hadamard", _hadamard, "CUDA")
_library.impl("matmul", _matmul_cpu, "CPU")
_library.impl("matmul", _matmul_cuda, "CUDA")
_library.impl("matmul_out", _matmul_out_cuda, "CUDA")
_library.impl("matmul_out", _matmul_out_cpu, "CPU")
torch.library.register_fake("lutsmith::hadamard", _hadamard_fake, lib=_library)
torch.library.register_fake("lutsmith::matmul", _matmul_fake, lib=_library)
torch.library.register_fake("lutsmith::matmul_out", _matmul_out_fake, lib=_library)

_matmul = torch.ops.lutsmith.matmul.default
_matmul_out = torch.ops.lutsmith.matmul_out.default


@overload
def matmul(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    batch_invariant: bool = False,
) -> torch.Tensor: ...
@overload
def matmul(
    x: torch.Tensor,
    packed: Sequence[PackedWeight],
    bias: Sequence[torch.Tensor | None] | None = None,
    out: Sequence[torch.Tensor] | None = None,
    batch_invariant: bool = False,
) -> list[torch.Tensor]: ...
def matmul(x, packed, bias=None, out=None, batch_invariant=False):  # type: ignore[no-untyped-def]
    """y = x @ W.T + bias.

    Args:
        x: [..., K] in the dtype of `packed`, on its device, with any strides.
        packed: W [N, K]; or several of them, of one K, such as the members of a fused layer (q, k and v; gate and up).
            Each brings its own table, bits and group, and takes a launch of its own. Where x is to be transformed it
            is so once for all that have the same transform.
        bias: [N] in the dtype of x. With several weights: a list of them, or None.
        out: [..., N] in the dtype of x, with any strides: where the product goes. With several weights: a list.
        batch_invariant: a token's row of y is the same, bit for bit, for every number of tokens in x and every place
            among them, on GPUs of one target. Slower for few tokens. Without effect on the CPU.

    Returns:
        y [..., N] in the dtype of x, or `out`; with several weights a list of them. For inference: gradients do not
        flow through it.

    Raises:
        Error: for shapes, dtypes and devices that do not go together. Nothing has been computed then.
    """
    if isinstance(packed, PackedWeight):
        return _product(x, packed.data, packed.format, bias, out, batch_invariant)
    members = [packed] if isinstance(packed, torch.Tensor) else list(packed)
    for member in members:
        if not isinstance(member, PackedWeight):
            raise Error(
                f"packed: {type(member).__name__} is not allowed; allowed: what lutsmith.quantize makes of a matrix, or "
                "several of those"
            )
    biases = [None] * len(members) if bias is None else list(bias)
    outs = [None] * len(members) if out is None else list(out)
    for name, given in (("bias", biases), ("out", outs)):
        if len(given) != len(members):
            raise Error(f"{name}: {len(given)} given for {len(members)} weights; give one for each")
    known = [formats.known(member.format) for member in members]
    transformed = {None: x}
    for member, format in zip(members, known):
        if format.hadamard not in transformed:
            _check(x, member.data, format, None)
            block, seed = format.hadamard
            transformed[format.hadamard] = torch.ops.lutsmith.hadamard.default(x, block, seed, batch_invariant)
    return [
        _product(transformed[format.hadamard], member.data, format.plain.line, one_bias, one_out, batch_invariant)
        for member, format, one_bias, one_out in zip(members, known, biases, outs)
    ]


def _product(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None,
    out: torch.Tensor | None,
    batch_invariant: bool,
) -> torch.Tensor:
    if out is None:
        return _matmul(x, weights, format, bias, batch_invariant)
    _matmul_out(x, weights, format, bias, out, batch_invariant)
    return out
