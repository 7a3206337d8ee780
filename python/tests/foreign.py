"""Small checkpoints as other libraries write them, made here bit by bit, and what they stand for in float64.

Nothing of the package is used, so that a mistake in its readers is none of the tests too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
FP4 = [sign * value / 12 for sign in (1, -1) for value in (0, 0.0625, 8, 12, 4, 6, 2, 3)]
E2M1 = [sign * value for sign in (1, -1) for value in (0, 0.5, 1, 1.5, 2, 3, 4, 6)]


class Made(NamedTuple):
    tensors: dict[str, torch.Tensor]
    weights: torch.Tensor  #: [N, K], float64
    codes: torch.Tensor  #: [N, K]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_codes(n: int, k: int, bits: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2**bits, (n, k), generator=generator(seed))


def random_scales(n: int, groups: int, dtype: torch.dtype, seed: int = 1) -> torch.Tensor:
    return (torch.rand(n, groups, generator=generator(seed)) * 0.02 + 0.001).to(dtype)


def words(rows: torch.Tensor, bits: int) -> torch.Tensor:
    """Each row of codes as one long number, cut into 32-bit words: [rows, codes] -> int32 [rows, words]."""
    cut = []
    for row in rows.tolist():
        number = sum(code << (bits * i) for i, code in enumerate(row))
        raw = number.to_bytes(-(-len(row) * bits // 32) * 4, "little")
        cut.append([int.from_bytes(raw[i : i + 4], "little", signed=True) for i in range(0, len(raw), 4)])
    return torch.tensor(cut, dtype=torch.int32)


def per_column(scales: torch.Tensor, group_of_column: list[int]) -> torch.Tensor:
    return scales.double()[:, group_of_column]


def gptq(
    n: int,
    k: int,
    bits: int,
    group: int,
    version: int = 1,
    zeros: torch.Tensor | None = None,
    g_idx: list[int] | None = None,
    dtype: torch.dtype = torch.float16,
) -> Made:
    """zeros: [N, groups]; None: symmetric."""
    groups = -(-k // group)
    codes, scales = random_codes(n, k, bits), random_scales(n, groups, dtype)
    zeros = torch.full((n, groups), 2 ** (bits - 1)) if zeros is None else zeros
    column = [i // group for i in range(k)] if g_idx is None else g_idx
    tensors = {
        "qweight": words(codes, bits).t().contiguous(),
        "qzeros": words((zeros - int(version == 1)).t() & 2**bits - 1, bits),
        "scales": scales.t().contiguous(),
        "g_idx": torch.tensor(column, dtype=torch.int32),
    }
    weights = per_column(scales, column) * (codes - zeros[:, column]).double()
    return Made(tensors, weights, codes)


def awq(n: int, k: int, group: int, zeros: torch.Tensor | None = None) -> Made:
    groups = k // group
    codes, scales = random_codes(n, k, 4), random_scales(n, groups, torch.float16)
    zeros = torch.full((n, groups), 8) if zeros is None else zeros
    column = [i // group for i in range(k)]

    def packed(
        rows: torch.Tensor,
    ) -> torch.Tensor:  # [any, N]: of eight columns the first word's codes are 0 2 4 6 1 3 5 7
        return words(rows.reshape(-1, n // 8, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]].reshape(-1, n), 4)

    tensors = {"qweight": packed(codes.t()), "qzeros": packed(zeros.t()), "scales": scales.t().contiguous()}
    return Made(tensors, per_column(scales, column) * (codes - zeros[:, column]).double(), codes)


def bitsandbytes(
    n: int, k: int, kind: str, nested: bool, dtype: str = "float16", block: int = 64, seed: int = 0
) -> Made:
    """tensors: by what follows the weight's name."""
    codes = random_codes(n, k, 4, seed)
    flat = codes.flatten()
    blocks = -(-n * k // block)
    state: dict[str, object] = {"quant_type": kind, "blocksize": block, "dtype": dtype, "shape": [n, k]}
    table = torch.tensor(NF4 if kind == "nf4" else FP4, dtype=torch.float32)
    tensors = {"": (flat[0::2] << 4 | flat[1::2]).to(torch.uint8).reshape(-1, 1), ".quant_map": table}
    if nested:
        inner = 256
        state.update(nested_blocksize=inner, nested_dtype="float32", nested_offset=0.23220062255859375)
        outer = torch.rand(-(-blocks // inner), generator=generator(seed + 1)) * 0.1
        values = torch.linspace(-1, 1, 256)
        places = torch.randint(256, (blocks,), generator=generator(seed + 2))
        tensors.update({".absmax": places.to(torch.uint8), ".nested_absmax": outer, ".nested_quant_map": values})
        # As the library computes it, in float32.
        absmax = values[places] * outer[torch.arange(blocks) // inner] + torch.tensor(0.23220062255859375)
    else:
        absmax = torch.rand(blocks, generator=generator(seed + 1)) * 0.3 + 0.01
        tensors[".absmax"] = absmax
    tensors[f".quant_state.bitsandbytes__{kind}"] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    each = absmax.double()[torch.arange(n * k) // block]
    return Made(tensors, (each * table.double()[flat]).reshape(n, k), codes)


def pack_quantized(
    n: int,
    k: int,
    bits: int,
    group: int,
    dtype: torch.dtype,
    zeros: torch.Tensor | None = None,
) -> Made:
    """group: 0: one scale a row."""
    groups = k // group if group else 1
    codes, scales = random_codes(n, k, bits), random_scales(n, groups, dtype)
    column = [i // (group or k) for i in range(k)]
    tensors = {
        "weight_packed": words(codes, bits),
        "weight_scale": scales,
        "weight_shape": torch.tensor([n, k]),
    }
    offsets = torch.full((n, groups), 2 ** (bits - 1)) if zeros is None else zeros
    if zeros is not None:
        tensors["weight_zero_point"] = words(zeros.t(), bits).t().contiguous()
    return Made(tensors, per_column(scales, column) * (codes - offsets[:, column]).double(), codes)


def mxfp4(n: int, k: int, lowest: int = 110, highest: int = 127, seed: int = 0) -> tuple[Made, torch.Tensor]:
    """`tensors`: weight_packed and weight_scale as compressed-tensors has them. Also the codes in bytes [N, K / 2]."""
    codes = random_codes(n, k, 4, seed)
    exponents = torch.randint(lowest, highest + 1, (n, k // 32), generator=generator(seed + 1))
    data = (codes[:, 0::2] | codes[:, 1::2] << 4).to(torch.uint8)
    each = torch.pow(2.0, exponents.double() - 127).repeat_interleave(32, dim=1)
    tensors = {"weight_packed": data, "weight_scale": exponents.to(torch.uint8)}
    return Made(tensors, each * torch.tensor(E2M1, dtype=torch.float64)[codes], codes), exponents


def nvfp4(n: int, k: int, library: str, seed: int = 0) -> Made:
    """Normal weights as ModelOpt and compressed-tensors round them: the largest of each 16 becomes 6."""
    weight = torch.randn(n, k, generator=generator(seed), dtype=torch.float64) / 20
    whole = torch.tensor((weight.abs().max() / (6 * 448)).item())
    if library == "compressed-tensors":
        whole = 1 / (1 / whole)
    largest = weight.reshape(n, -1, 16).abs().amax(-1)
    scales = (largest / 6 / whole).to(torch.float8_e4m3fn)
    each = (scales.double() * whole.double()).repeat_interleave(16, 1)
    codes = ((weight / each).unsqueeze(-1) - torch.tensor(E2M1, dtype=torch.float64)).abs().argmin(-1)
    data = (codes[:, 0::2] | codes[:, 1::2] << 4).to(torch.uint8)
    if library == "ModelOpt":
        tensors = {"weight": data, "weight_scale": scales, "weight_scale_2": whole}
    else:
        tensors = {"weight_packed": data, "weight_scale": scales, "weight_global_scale": (1 / whole).reshape(1)}
    return Made(tensors, each * torch.tensor(E2M1, dtype=torch.float64)[codes], codes)


_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e4m3fn: "F8_E4M3",
}


def write(path: Path, tensors: dict[str, torch.Tensor], config: dict[str, object] | None = None) -> Path:
    """A safetensors file; `config` becomes the quantization_config of config.json beside it."""
    header, parts, end = {}, [], 0
    for name, tensor in tensors.items():
        raw = bytes(tensor.contiguous().flatten().view(torch.uint8).tolist())
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(raw)],
        }
        parts.append(raw)
        end += len(raw)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
    if config is not None:
        (path.parent / "config.json").write_text(json.dumps({"quantization_config": config}))
    return path


def named(made: Made, module: str, separator: str = ".") -> dict[str, torch.Tensor]:
    return {f"{module}{separator}{name}" if name else module: tensor for name, tensor in made.tensors.items()}
