"""Quantized matrices: making them, and what they are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lutsmith import _core, formats, higgs, hqq
from lutsmith import codes as code_packing
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.hadamard import LARGEST_BLOCK, Hadamard, fitting, inverse, transform

__all__ = ["PackedWeight", "quantize"]

Group = int | str
Table = Sequence[float] | torch.Tensor | str
SCALES = ("absmax", "mse", "rms")
#: The method whose table is learned from each matrix.
LEARNED = "kmeans"
_UNWEIGHED = (
    f'method "{LEARNED}" without importance has made models worse than "nf", though its weights are closer: give '
    "importance, the mean of x**2 of each input channel, as lutsmith.calibrate collects it"
)


class PackedWeight:
    """A quantized matrix W [n, k] as kernels read it: weight = scale of its group * value of its code, plus the offset of
    its group where the matrix has offsets.

    Attributes:
        data: uint8 tensor [format's bytes], contiguous, on any device.
        format: the line that says what `data` means; with `data` it is all that there is to a matrix. Plain text,
            so that checkpoints keep it and operators take it.
        bits, group, n, k: codes have so many bits; so many weights along k share a scale (0: all of a row).
        dtype: torch.float16 or torch.bfloat16: of x, y and the scales.
        table: the values behind the codes; of segments one table behind another; () where rows have tables of their
            own, which `row_tables()` gives.
        segments: rows of each segment with a table of its own, n in all; () where all rows have the same.
        has_offsets: whether there is an offset beside each scale.
        hadamard: block and seed of the Hadamard transform of W's rows that was quantized, for which x is transformed
            before each product; None where W itself was.
    """

    __slots__ = ("_format", "data")

    def __init__(self, data: torch.Tensor, format: str) -> None:
        """Raises Error where `data` cannot be what `format` says."""
        self._format = formats.known(format)
        check_data(data, self._format)
        self.data = data

    @property
    def format(self) -> str:
        return self._format.line

    @property
    def bits(self) -> int:
        return self._format.bits

    @property
    def group(self) -> int:
        return self._format.group

    @property
    def n(self) -> int:
        return self._format.n

    @property
    def k(self) -> int:
        return self._format.k

    @property
    def dtype(self) -> torch.dtype:
        return self._format.dtype

    @property
    def table(self) -> tuple[float, ...]:
        return self._format.table

    @property
    def segments(self) -> tuple[int, ...]:
        return self._format.segments

    @property
    def has_offsets(self) -> bool:
        return self._format.offsets

    @property
    def hadamard(self) -> Hadamard | None:
        return self._format.hadamard

    @property
    def shape(self) -> tuple[int, int]:
        return (self.n, self.k)

    @property
    def nbytes(self) -> int:
        """Of the packed bytes."""
        return self._format.packed_bytes

    @property
    def device(self) -> torch.device:
        return self.data.device

    def dequantize(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """W [n, k] in `dtype` (float16, bfloat16 or float32; the weights' own by default), each weight rounded once
        (with offsets: the sum of scale * value and the offset).

        On the device of `data`; the work is the CPU's, on as many threads as torch uses. Of transformed weights it is
        what `matmul` multiplies x by as x is given: scales and values behind the codes are transformed back, in
        float32. `transformed().dequantize()` gives them as they are.
        """
        dtype = dtype or self.dtype
        if dtype not in formats.HOST_TYPES:
            raise Error(f"dtype: {dtype} is not allowed; allowed: {_listed(formats.HOST_TYPES)}")
        return dequantize_rows(self.data.cpu(), self._format, 0, self.n, dtype).to(self.device)

    def transformed(self) -> PackedWeight:
        """The matrix that is multiplied once x is transformed, W T: the same bytes without `hadamard`.

        matmul(x, packed) = matmul(lutsmith.hadamard.transform(x, packed.hadamard), packed.transformed()).
        """
        return self if self.hadamard is None else PackedWeight(self.data, self._format.plain.line)

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> PackedWeight:
        """The same on another device; itself where it is there already."""
        data = self.data.to(device, non_blocking=non_blocking)
        return self if data is self.data else PackedWeight(data, self.format)

    def cuda(self, device: torch.device | str | int = "cuda") -> PackedWeight:
        return self.to(device)

    def cpu(self) -> PackedWeight:
        return self.to("cpu")

    def state_dict(self) -> dict[str, Any]:
        """{"data": tensor, "format": str}"""
        return {"data": self.data, "format": self.format}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> PackedWeight:
        return cls(state["data"], state["format"])

    @classmethod
    def from_codes(
        cls,
        codes: torch.Tensor,
        scales: torch.Tensor,
        table: Sequence[float] | torch.Tensor,
        group: Group,
        bits: int | None = None,
        offsets: torch.Tensor | None = None,
        hadamard: Hadamard | None = None,
    ) -> PackedWeight:
        """The matrix whose weight [n, k] is scales[n, k // group] * table[codes[n, k]]; :meth:`codes` gives it back.

        With offsets, offsets[n, k // group] is added, and the sum rounded once to the type of the scales. Codes with
        zero points are those: scale * (code - zero) has the table 0, 1, 2, ... and the offset -scale * zero.

        Args:
            codes: [N, K], integers from 0 to 2**bits - 1.
            scales: [N, ceil(K / group)], or [N, 1] for "channel"; float16 or bfloat16, which is the matrix's type.
            table: 2**bits values, rounded to the type of the scales (``.table`` says to what); or pairs, see `quantize`; or
                a tensor [N, 2**bits], a table for each row: weight [n, k] is then scales[n, k // group] *
                table[n, codes[n, k]] (any4, SqueezeLLM).
            group: weights along K that share a scale: 32, 64, 128, 256, or "channel" (also 0).
            bits: None: those of a scalar table so long.
            offsets: of the shape and type of the scales; None: there are none, and the matrix is smaller by 2 bytes for
                each scale.
            hadamard: the transform whose result the codes stand for, with a block that divides K.

        Returns: it on the device of `codes`.

        Raises:
            Error: for other shapes and types, codes out of range, and numbers that are not finite.
        """
        data, format = code_packing.pack(codes, scales, table, _group(group), bits, offsets)
        return cls(data, format.line if hadamard is None else f"{format.line} {Hadamard(*hadamard)}")

    def codes(self) -> torch.Tensor:
        """[N, K], uint8, on the device of `data`."""
        return code_packing.unpack(self.data, self._format).codes

    def scales(self) -> torch.Tensor:
        """[N, groups of a row] in `dtype`, on the device of `data`."""
        return code_packing.unpack(self.data, self._format).scales

    def offsets(self) -> torch.Tensor | None:
        """[N, groups of a row] in `dtype`, on the device of `data`; None where the matrix has no offsets."""
        return code_packing.unpack(self.data, self._format).offsets

    def row_tables(self) -> torch.Tensor | None:
        """[N, 2**bits] in `dtype`, on the device of `data`; None where all rows of a segment have one table."""
        return code_packing.unpack(self.data, self._format).tables

    def packed_weights(self) -> list[PackedWeight]:
        """Itself, so that whatever takes modules with packed weights takes one of these too."""
        return [self]

    def __reduce__(self) -> Any:
        return (PackedWeight, (self.data, self.format))

    def __repr__(self) -> str:
        return f"PackedWeight({self._format.describe()}, {self.nbytes} bytes, {self.device})"


def quantize(
    weight: torch.Tensor,
    method: str = "nf",
    bits: int = 4,
    group: Group = 64,
    table: Table | None = None,
    dtype: torch.dtype | None = None,
    scales: str | None = None,
    importance: torch.Tensor | None = None,
    hadamard: int | None = None,
    seed: int = 0,
) -> PackedWeight:
    """Rounds every weight to the nearest entry of a table times the scale of its group.

    docs/quantizers.md has the formulas, and says what is worth its time.

    Args:
        weight: [N, K], float16, bfloat16 or float32, with any strides, on the CPU or a GPU. K is a multiple of 8.
        method: the table: "nf" (NormalFloat: quantiles of the normal distribution; Dettmers et al., QLoRA, section 3),
            "int" (symmetric integers), "fp" (e2m1, 4 bits), "lloyd" (the levels of least squared error for normal
            weights; Lloyd, 1982; Max, 1960), "kmeans" (learned from this matrix) or "higgs" (grids of least squared
            error for normal weights, which a Hadamard transform makes of any; Malinovskii et al., Pushing the Limits
            of Large Language Model Quantization via the Linearity Theorem, 2024); or "hqq" (integers with an offset for
            each group, which suits all weights but a few; Badri and Shaji, Half-Quadratic Quantization, 2023).
        bits: 1 to 4 for what is to be multiplied by kernels; up to 8 can be packed.
        group: weights along K that share a scale: 32, 64, 128, 256, or "channel" (also 0): one scale for each row.
        table: your own values instead of a method's: 2**bits of them, any order and sign; or pairs of values for
            every two codes that are neighbours along K, 2 * 4**bits; or a tensor [N, 2**bits], a table for each row. With
            "higgs" the kind of grid: "pair" (2, 3 and 4 bits) or "scalar" (the levels of "lloyd"); by default "pair". With
            "kmeans" "row" learns a table from each row instead of one from all (Kim et al., SqueezeLLM, 2023, section
            4.1, where `importance` is the diagonal of the Fisher information).
        dtype: torch.float16 or torch.bfloat16: of x, y and the scales. `weight`'s own by default; float16 for float32.
        scales: "absmax" (a group's largest weight is the table's largest entry), "mse" (the scale with the least
            squared error, never more than with "absmax"; 20 times the work) or "rms" (the root mean square of the
            group's weights). By default "mse" for "lloyd" and "kmeans", which takes no other, "rms" for "higgs", and
            "absmax" for all else.
        importance: [K], how often the squared error of each input channel counts for "mse" and "kmeans", such as the
            mean of x**2; none negative. By default all count alike. Channels that a transform mixes count as their
            mean.
        hadamard: the largest block of channels that a Hadamard transform may mix, a power of two from 8 to 1024: that
            or the largest power of two that divides K. 0: none. By default 1024 for "higgs", and 0 for all else.
        seed: of the transform's signs. Weights that are to be multiplied together want the same one.

    Returns:
        The packed matrix, on the device of `weight`. The work is the CPU's, on as many threads as torch uses.

    Warns:
        UserWarning: for method "kmeans" without importance, which has the least error of weights and made a model
            worse than "nf" (docs/quantizers.md).

    Raises:
        Error: for other shapes, types and settings; for weights that are not finite, or that scales of `dtype` cannot
            hold. The text says what to do.
    """
    check_matrix(weight)
    if dtype is None:
        dtype = torch.float16 if weight.dtype == torch.float32 else weight.dtype
    n, k = weight.shape
    format = planned_format(n, k, method, bits, group, table, dtype, hadamard, seed)
    scales = scale_choice(method, table, scales)
    if method == hqq.METHOD and importance is not None:
        raise Error(f"importance: not allowed with method {hqq.METHOD}, for which all channels count alike")
    counts = _importance(importance, k)
    weight = weight.detach()
    rows = _rows_of_neighbours(weight.cpu())
    if format.hadamard is not None and bool(torch.isfinite(rows).all()):  # else the place would be lost
        rows = transform(rows.float(), format.hadamard)
        if counts is not None:
            counts = _mixed(counts, format.hadamard)
    if method == hqq.METHOD:
        codes, of_groups, offsets = hqq.solve(rows, bits, format.group, dtype)
        parts = code_packing.Parts(codes, of_groups.view(torch.int16), offsets.view(torch.int16))
        return PackedWeight(code_packing.pack_words(parts, format).to(weight.device), format.line)
    matrix = (rows.data_ptr(), formats.HOST_TYPES[rows.dtype], rows.stride(0) if n > 1 else k)
    threads = torch.get_num_threads()
    counts_at = 0 if counts is None else counts.data_ptr()
    if method == LEARNED and (table is None or _learns_rows(method, table)):
        if counts is None:
            warnings.warn(_UNWEIGHED, stacklevel=2)
        if table is None:
            table = format.core.learn_table(*matrix, threads, counts_at)
        else:
            of_row = planned_format(1, k, method, bits, group, None, dtype)
            table = _learned_rows(matrix, n, of_row, counts_at)
        format = planned_format(n, k, method, bits, group, table, dtype, hadamard, seed)
    values = code_packing.row_tables(table, n, bits)
    if values is None:
        values, _ = _table(method, bits, table)
    data = torch.empty(format.packed_bytes, dtype=torch.uint8, device="cpu")
    format.core.quantize(*matrix, code_packing.table_bytes(values), data.data_ptr(), threads, scales, counts_at)
    return PackedWeight(data.to(weight.device), format.line)


def planned_format(
    n: int,
    k: int,
    method: str,
    bits: int,
    group: Group,
    table: Table | None,
    dtype: torch.dtype,
    hadamard: int | None = None,
    seed: int = 0,
) -> formats.Format:
    """The format that `quantize` gives a matrix [n, k]; the other arguments and the errors are those of `quantize`.

    Where the table is learned, its values are those of another one.
    """
    if dtype not in formats.DTYPE_NAMES:
        raise Error(f"dtype: {dtype} is not allowed; allowed: {_listed(formats.DTYPE_NAMES)}")
    if _learns_rows(method, table) or code_packing.row_tables(table, n, bits) is not None:
        kind, words = formats.ROW, b""
    else:
        values, kind = _table(method, bits, table)
        words = code_packing.table_bytes(values.to(dtype))
    if hadamard is None:
        hadamard = LARGEST_BLOCK if method == higgs.METHOD else 0
    transform = fitting(hadamard, seed, k)
    offsets = method == hqq.METHOD
    return formats.Format(bits, _group(group), n, k, formats.DTYPE_NAMES[dtype], kind, words, offsets, transform)


def check_matrix(weight: torch.Tensor) -> None:
    """Raises Error for what `quantize` cannot take as a matrix, by its kind, dimensions or type."""
    if not isinstance(weight, torch.Tensor):
        raise Error(
            f"weight: {type(weight).__name__} is not allowed; allowed: a tensor [N, K]; "
            "lutsmith.nn.Linear.from_linear quantizes a layer"
        )
    if weight.dim() != 2:
        raise Error(f"weight: shape {tuple(weight.shape)} is not allowed; allowed: [N, K]")
    if weight.dtype not in formats.HOST_TYPES:
        raise Error(
            f"weight: {weight.dtype} is not allowed; allowed: {_listed(formats.HOST_TYPES)}; convert it with .to()"
        )


def scale_choice(method: str, table: Table | None, scales: str | None) -> str:
    """`scales`, or what is usual with the table; Error where the table cannot go with it."""
    if method == hqq.METHOD and scales is not None:
        raise Error(f"scales: {scales!r} is not allowed with method {hqq.METHOD}, which has its own: leave it out")
    learned = method == LEARNED and (table is None or _learns_rows(method, table))
    searched = learned or (table is None and method == "lloyd")
    if scales is None:
        return "rms" if method == higgs.METHOD else "mse" if searched else "absmax"
    if scales not in SCALES:
        raise Error(f"scales: {scales!r} is not known; allowed: {', '.join(SCALES)}")
    if learned and scales != "mse":
        raise Error(f"scales: {scales!r} is not allowed with method {LEARNED}; allowed: mse")
    return scales


def dequantize_rows(
    data: torch.Tensor, format: formats.Format, first: int, rows: int, dtype: torch.dtype
) -> torch.Tensor:
    """Rows of W from `first` on, a multiple of 32: [rows, k] in `dtype`. `data` is on the CPU and as `format` says."""
    if format.hadamard is not None:
        return inverse(dequantize_rows(data, format.plain, first, rows, torch.float32), format.hadamard).to(dtype)
    weights = torch.empty((rows, format.k), dtype=dtype, device="cpu")
    format.core.dequantize(
        data.data_ptr(),
        first,
        rows,
        weights.data_ptr(),
        formats.HOST_TYPES[dtype],
        format.k,
        torch.get_num_threads(),
    )
    return weights


def check_data(data: torch.Tensor, format: formats.Format) -> None:
    """Raises Error where `data` cannot be the bytes of a matrix of `format`."""
    if data.dtype != torch.uint8 or data.dim() != 1 or not data.is_contiguous():
        raise Error(
            f"weights: {data.dtype} {tuple(data.shape)} is not allowed; allowed: contiguous uint8, one dimension"
        )
    if data.numel() != format.packed_bytes:
        raise Error(f"weights: {data.numel()} bytes given; {format.describe()} takes {format.packed_bytes}")


def _table(method: str, bits: int, table: Table | None) -> tuple[torch.Tensor, str]:
    """float32 values and their kind."""
    if method == higgs.METHOD:
        return higgs.table(bits, table)
    if method == hqq.METHOD:
        if table is not None:
            raise Error(f"table: not allowed with method {hqq.METHOD}, whose codes are integers; leave it out")
        return torch.tensor(_core.table("int", bits), dtype=torch.float32, device="cpu"), "scalar"
    if isinstance(table, str):
        raise Error(f"table: {table!r} is not allowed with method {method}; allowed: values")
    if table is None:
        # Lloyd's stands for one that is learned until there are weights: it has every number of bits.
        known = _core.table("lloyd" if method == LEARNED else method, bits)
        return torch.tensor(known, dtype=torch.float32, device="cpu"), "scalar"
    values, _, kind = code_packing.table_of(table, bits)
    return values, kind


def _learns_rows(method: str, table: Table | None) -> bool:
    return method == LEARNED and isinstance(table, str) and table == formats.ROW


def _learned_rows(matrix: tuple[int, str, int], n: int, of_row: formats.Format, counts_at: int) -> torch.Tensor:
    """A table for each of n rows, which lie at an address, of a type and with a stride: [n, 2**bits]."""
    first, type, stride = matrix
    row_bytes = stride * (4 if type == "f32" else 2)

    def learn(row: int) -> list[float]:
        return of_row.core.learn_table(first + row * row_bytes, type, stride, 1, counts_at)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return torch.tensor(list(threads.map(learn, range(n))), dtype=torch.float32, device="cpu")


def _mixed(importance: torch.Tensor, hadamard: Hadamard) -> torch.Tensor:
    """Of transformed channels: an error of one is spread over all channels of its block alike."""
    if bool((importance < 0).any()):
        return importance  # to be refused by the channel that was given
    means = importance.reshape(-1, hadamard.block).mean(1)
    return means.repeat_interleave(hadamard.block).contiguous()


def _importance(importance: torch.Tensor | None, k: int) -> torch.Tensor | None:
    """float32 [k] on the CPU. Its values are checked where they are used."""
    if importance is None:
        return None
    if not isinstance(importance, torch.Tensor) or tuple(importance.shape) != (k,):
        given = tuple(importance.shape) if isinstance(importance, torch.Tensor) else type(importance).__name__
        raise Error(f"importance: {given} is not allowed; allowed: a tensor [{k}], one value for each input channel")
    return importance.detach().to(device="cpu", dtype=torch.float32).contiguous()


def _group(group: Group) -> int:
    if group == formats.CHANNEL:
        return 0
    if isinstance(group, int):
        return group
    allowed = ", ".join(map(str, sorted(formats.GROUPS)))
    raise Error(f"group: {group!r} is not allowed; allowed: {allowed}, {formats.CHANNEL!r}")


def _rows_of_neighbours(weight: torch.Tensor) -> torch.Tensor:
    neighbours = weight.stride(1) == 1 or weight.shape[1] == 1
    apart = weight.stride(0) >= weight.shape[1] or weight.shape[0] == 1
    return weight if neighbours and apart else weight.contiguous()


def _listed(dtypes: Mapping[torch.dtype, str]) -> str:
    return ", ".join(str(dtype) for dtype in dtypes)
