"""The operators of torch: lutsmith::matmul, lutsmith::matmul_out, lutsmith::gated_matmul and lutsmith::hadamard.

Their arguments are plain data: tensors, text and switches. So they can be compiled, exported and captured,
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
from lutsmith.packed_rows import GATE_ROWS
from lutsmith.packed_weight import PackedWeight, check_data, dequantize_rows
from lutsmith.reordered import ReorderedWeight, reordered

__all__ = ["gated_matmul", "matmul"]

#: Weights that the CPU turns into numbers at a time: 16 MB of floats.
_CPU_WEIGHTS_AT_ONCE = 1 << 22
_PANEL_ROWS = 32

_library = torch.library.Library("lutsmith", "DEF")
_library.define(
    "matmul(Tensor x, Tensor weights, str format, Tensor? bias=None, bool batch_invariant=False, "
    "Tensor? residual=None) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    "hadamard(Tensor x, int block, int seed, bool batch_invariant=False) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    "matmul_out(Tensor x, Tensor weights, str format, Tensor? bias, Tensor(a!) out, bool batch_invariant=False, "
    "Tensor? residual=None) -> ()",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    'gated_matmul(Tensor x, Tensor weights, str format, str activation="silu", bool batch_invariant=False) -> Tensor',
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _check(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: formats.Format,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> None:
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
    if residual is not None:
        _check_like_y("residual", residual, x, format)


def _check_like_y(name: str, y: torch.Tensor, x: torch.Tensor, format: formats.Format) -> None:
    expected = (*x.shape[:-1], format.n)
    if y.shape != expected or y.dtype != x.dtype or y.device != x.device:
        raise Error(
            f"{name}: {y.dtype} {tuple(y.shape)} on {y.device} is not allowed; allowed: {x.dtype} {tuple(expected)} "
            f"on {x.device}"
        )


def _check_gated(x: torch.Tensor, weights: torch.Tensor, format: formats.Format, activation: str) -> int:
    """Channels of y."""
    gpu.variant_of(gated=activation)
    _check(x, weights, format)
    if format.n % (2 * GATE_ROWS):
        raise Error(
            f"packed: {format.n} rows are not allowed; allowed: multiples of {2 * GATE_ROWS}, as "
            "lutsmith.interleave_gate(gate, up) makes them"
        )
    return format.n // 2


def _matmul_fake(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None = None,
    batch_invariant: bool = False,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    known = formats.known(format)
    _check(x, weights, known, bias, residual)
    return x.new_empty((*x.shape[:-1], known.n))


def _matmul_out_fake(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    batch_invariant: bool = False,
    residual: torch.Tensor | None = None,
) -> None:
    known = formats.known(format)
    _check(x, weights, known, bias, residual)
    _check_like_y("out", out, x, known)


def _matmul_cpu(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None = None,
    batch_invariant: bool = False,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sums are rounded once, with what is added.

    `batch_invariant` chooses among kernels, of which there are none here.
    """
    known = formats.known(format)
    _check(x, weights, known, bias, residual)
    product = _sums_cpu(x, weights, known)
    if bias is not None:
        product += bias.detach()
    if residual is not None:
        product += residual.detach().reshape(product.shape)
    return product.to(x.dtype).reshape(*x.shape[:-1], known.n)


def _sums_cpu(x: torch.Tensor, weights: torch.Tensor, known: formats.Format) -> torch.Tensor:
    """x W^T in float32, [tokens, n]: dequantizes some rows at a time and multiplies."""
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
    return product


def _matmul_out_cpu(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    batch_invariant: bool = False,
    residual: torch.Tensor | None = None,
) -> None:
    _check_like_y("out", out, x, formats.known(format))
    out.copy_(_matmul_cpu(x, weights, format, bias, residual=residual))


def _matmul_cuda(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None = None,
    batch_invariant: bool = False,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    known = formats.known(format)
    if known.hadamard is not None:
        _check(x, weights, known, bias, residual)
        x, known = transform(x, known.hadamard, batch_invariant), known.plain
    y = None
    if bias is None and residual is None:
        if gpu.exchanges_tensors:
            y = known.core.multiply(x, weights, gpu.empty, known.dtype, batch_invariant)
        return _matmul_by_steps(x, weights, known, batch_invariant) if y is None else y
    variant = gpu.variant_of(batch_invariant, bias is not None, residual is not None)
    if gpu.exchanges_tensors:
        y = known.core.multiply(x, weights, gpu.empty, known.dtype, variant, bias, residual)
    if y is None:
        _check(x, weights, known, bias, residual)
        y = _matmul_by_steps(x, weights, known, variant, bias, residual)
    return y


def _matmul_by_steps(
    x: torch.Tensor,
    weights: torch.Tensor,
    known: formats.Format,
    variant: int,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    channels: int | None = None,
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
        _check(x, weights, known)
        check_data(weights, known)
    y = x.new_empty((*shape[:-1], known.n if channels is None else channels))
    stream = gpu.current_stream(device)
    gpu.launch(known, device, stream, x, weights, y, 0, variant, _as_rows(bias), _as_rows(residual))
    return y


def _as_rows(added: torch.Tensor | None) -> torch.Tensor | None:
    """As a kernel reads it."""
    return added if added is None or gpu.can_write(added) else added.contiguous()


def _matmul_out_cuda(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    batch_invariant: bool = False,
    residual: torch.Tensor | None = None,
) -> None:
    known = formats.known(format)
    _check_like_y("out", out, x, known)
    if not gpu.can_write(out):
        out.copy_(_matmul_cuda(x, weights, format, bias, batch_invariant, residual))
        return
    _check(x, weights, known, bias, residual)
    check_data(weights, known)
    if known.hadamard is not None:
        x, known = transform(x, known.hadamard, batch_invariant), known.plain
    device = x.get_device()
    y_stride = 0 if out.is_contiguous() else out.stride(0)
    variant = gpu.variant_of(batch_invariant, bias is not None, residual is not None)
    stream = gpu.current_stream(device)
    gpu.launch(known, device, stream, x, weights, out, y_stride, variant, _as_rows(bias), _as_rows(residual))


def _gated_matmul_fake(
    x: torch.Tensor, weights: torch.Tensor, format: str, activation: str = "silu", batch_invariant: bool = False
) -> torch.Tensor:
    channels = _check_gated(x, weights, formats.known(format), activation)
    return x.new_empty((*x.shape[:-1], channels))


def _gated_matmul_cpu(
    x: torch.Tensor, weights: torch.Tensor, format: str, activation: str = "silu", batch_invariant: bool = False
) -> torch.Tensor:
    known = formats.known(format)
    channels = _check_gated(x, weights, known, activation)
    gate, up = _sums_cpu(x, weights, known).unflatten(-1, (-1, 2, GATE_ROWS)).unbind(-2)
    if activation == "silu":
        opened = torch.nn.functional.silu(gate)
    else:
        opened = torch.nn.functional.gelu(gate, approximate="tanh")
    return (opened * up).to(x.dtype).reshape(*x.shape[:-1], channels)


def _gated_matmul_cuda(
    x: torch.Tensor, weights: torch.Tensor, format: str, activation: str = "silu", batch_invariant: bool = False
) -> torch.Tensor:
    known = formats.known(format)
    variant = gpu.variant_of(batch_invariant, gated=activation)
    if known.hadamard is not None:
        _check_gated(x, weights, known, activation)
        x, known = transform(x, known.hadamard, batch_invariant), known.plain
    y = None
    if gpu.exchanges_tensors:
        y = known.core.multiply(x, weights, gpu.empty, known.dtype, variant)
    if y is None:
        channels = _check_gated(x, weights, known, activation)
        y = _matmul_by_steps(x, weights, known, variant, channels=channels)
    return y


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
_library.impl("gated_matmul", _gated_matmul_cpu, "CPU")
_library.impl("gated_matmul", _gated_matmul_cuda, "CUDA")
torch.library.register_fake("lutsmith::gated_matmul", _gated_matmul_fake, lib=_library)
torch.library.register_fake("lutsmith::matmul", _matmul_fake, lib=_library)
torch.library.register_fake("lutsmith::matmul_out", _matmul_out_fake, lib=_library)

_matmul = torch.ops.lutsmith.matmul.default
_matmul_out = torch.ops.lutsmith.matmul_out.default
_gated_matmul = torch.ops.lutsmith.gated_matmul.default


@overload
def matmul(
    x: torch.Tensor,
    packed: PackedWeight | ReorderedWeight,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    batch_invariant: bool = False,
    residual: torch.Tensor | None = None,
) -> torch.Tensor: ...
@overload
def matmul(
    x: torch.Tensor,
    packed: Sequence[PackedWeight],
    bias: Sequence[torch.Tensor | None] | None = None,
    out: Sequence[torch.Tensor] | None = None,
    batch_invariant: bool = False,
    residual: Sequence[torch.Tensor | None] | None = None,
) -> list[torch.Tensor]: ...
def matmul(x, packed, bias=None, out=None, batch_invariant=False, residual=None):  # type: ignore[no-untyped-def]
    """y = x @ W.T + bias + residual, rounded once.

    Args:
        x: [..., K] in the dtype of `packed`, on its device, with any strides.
        packed: W [N, K]; or several of them, of one K, such as the members of a fused layer (q, k and v; gate and up).
            Each brings its own table, bits and group, and takes a launch of its own. Where x is to be transformed it
            is so once for all that have the same transform. One alone may be a
            :class:`lutsmith.reordered.ReorderedWeight`, whose columns are stored in another order than those of x.
        bias: [N] in the dtype of x. With several weights: a list of them, or None.
        out: [..., N] in the dtype of x, with any strides: where the product goes. With several weights: a list.
        batch_invariant: a token's row of y is the same, bit for bit, for every number of tokens in x and every place
            among them, on GPUs of one target. Slower for few tokens. Without effect on the CPU.
        residual: [..., N] in the dtype of x, best with rows at equal distances; may be `out`, but not a part of it.
            With several weights: a list.

    Returns:
        y [..., N] in the dtype of x, or `out`; with several weights a list of them. For inference: gradients do not
        flow through it.

    Raises:
        Error: for shapes, dtypes and devices that do not go together. Nothing has been computed then.
    """
    if isinstance(packed, PackedWeight):
        return _product(x, packed.data, packed.format, bias, out, batch_invariant, residual)
    if isinstance(packed, ReorderedWeight):
        stored, x = packed.stored, reordered(x, packed.order)
        return _product(x, stored.data, stored.format, bias, out, batch_invariant, residual)
    members = [packed] if isinstance(packed, torch.Tensor) else list(packed)
    for member in members:
        if isinstance(member, ReorderedWeight):
            raise Error(
                "packed: a ReorderedWeight among several is not allowed, as x is put into its order; allowed: one "
                "alone; multiply by each, or fuse layers of one order with lutsmith.nn.FusedLinear"
            )
        if not isinstance(member, PackedWeight):
            raise Error(
                f"packed: {type(member).__name__} is not allowed; allowed: what lutsmith.quantize makes of a matrix, or "
                "several of those"
            )
    biases = [None] * len(members) if bias is None else list(bias)
    outs = [None] * len(members) if out is None else list(out)
    residuals = [None] * len(members) if residual is None else list(residual)
    for name, given in (("bias", biases), ("out", outs), ("residual", residuals)):
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
        _product(
            transformed[format.hadamard], member.data, format.plain.line, one_bias, one_out, batch_invariant, one_residual
        )
        for member, format, one_bias, one_out, one_residual in zip(members, known, biases, outs, residuals)
    ]


def _product(
    x: torch.Tensor,
    weights: torch.Tensor,
    format: str,
    bias: torch.Tensor | None,
    out: torch.Tensor | None,
    batch_invariant: bool,
    residual: torch.Tensor | None,
) -> torch.Tensor:
    if out is None:
        if residual is None:
            return _matmul(x, weights, format, bias, batch_invariant)
        return _matmul(x, weights, format, bias, batch_invariant, residual)
    if residual is None:
        _matmul_out(x, weights, format, bias, out, batch_invariant)
    else:
        _matmul_out(x, weights, format, bias, out, batch_invariant, residual)
    return out


def gated_matmul(
    x: torch.Tensor, packed: PackedWeight, activation: str = "silu", batch_invariant: bool = False
) -> torch.Tensor:
    """activation(x @ gate.T) * (x @ up.T) in one launch: a gated linear unit, rounded once.

    Args:
        x: [..., K] in the dtype of `packed`, on its device, with any strides.
        packed: [2 F, K]: what :func:`lutsmith.interleave_gate` makes of gate and up. Rows in another order are no error
            that can be seen.
        activation: "silu" (SwiGLU: Llama, Qwen, Mistral) or "gelu_tanh" (GeGLU: Gemma).
        batch_invariant: as for :func:`matmul`.

    Returns:
        y [..., F] in the dtype of x. For inference: gradients do not flow through it.

    Raises:
        Error: for shapes, dtypes and devices that do not go together, and for other activations.
    """
    if not isinstance(packed, PackedWeight):
        raise Error(f"packed: {type(packed).__name__} is not allowed; allowed: what lutsmith.interleave_gate makes")
    return _gated_matmul(x, packed.data, packed.format, activation, batch_invariant)
