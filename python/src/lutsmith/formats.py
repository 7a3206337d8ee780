"""What packed bytes mean, as a line of text that operators take and checkpoints keep.

v1 w4 g64 4096x14336 f16 scalar bc00b992...3c00 h1024:0
 |  |  |   |    |     |    |        |              |
 |  |  |   n    k     |    |        |              Hadamard transform of x and of W's rows, if any: block, seed
 |  |  |              |    |        |              (-1: without signs)
 |  |  |              |    |        values behind the codes, 16-bit floats of the type in hexadecimal
 |  |  weights that   |    "scalar": one value for each code; "pair": two for every two codes along k
 |  |  share a scale, |
 |  |  or "channel"   type of x, y, scales and values: f16 or bf16
 |  bits of a code
 version of the packed bytes and of this line

Where weights have an offset beside each scale, the word "offsets" stands before the values.
"""

from __future__ import annotations

import array
import sys

from lutsmith import _core
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.hadamard import Hadamard
from lutsmith.hadamard import check as check_hadamard

VERSION = "v1"
CHANNEL = "channel"
_OFFSETS = "offsets"
GROUPS = (256, 128, 64, 32)  # that kernels have, besides one for each row

DTYPES: dict[str, torch.dtype] = {"f16": torch.float16, "bf16": torch.bfloat16}
DTYPE_NAMES: dict[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}
_TABLE_WORD = 6  # of the line: the values, or "offsets" and then the values
#: Types of matrices in host memory.
HOST_TYPES: dict[torch.dtype, str] = {**DTYPE_NAMES, torch.float32: "f32"}


class Format:
    """What a line says. Immutable; there is one object for each line, so that a look-up is all a call pays."""

    __slots__ = (
        "bits",
        "core",
        "dtype",
        "group",
        "hadamard",
        "k",
        "line",
        "n",
        "offsets",
        "packed_bytes",
        "panel_bytes",
        "plain",
        "table_kind",
        "table_words",
    )

    def __init__(
        self,
        bits: int,
        group: int,
        n: int,
        k: int,
        dtype: str,
        table_kind: str,
        table_words: bytes,
        offsets: bool = False,
        hadamard: Hadamard | None = None,
    ) -> None:
        """group: 0 for one scale a row. table_words: 16-bit floats of dtype, in the machine's order of bytes.

        hadamard: the transform that x goes through before it is multiplied, as the rows of W did before they were
        quantized. Raises Error for what cannot be packed.
        """
        length = 2**bits if table_kind == "scalar" else 2 * 4**bits
        if 1 <= bits <= 8 and len(table_words) != 2 * length:
            raise Error(f"table: {len(table_words) // 2} values given; {bits} bits, {table_kind} take {length}")
        #: The same without a transform: what the packed bytes are by themselves. Both have the same kernels.
        self.plain: Format = self
        if hadamard is None:
            self.core = _core.Format(bits, group, n, k, dtype, table_kind, table_words, offsets)
        else:
            self.plain = known(Format(bits, group, n, k, dtype, table_kind, table_words, offsets).line)
            self.core = self.plain.core
            check_hadamard(hadamard, k)
        self.hadamard = hadamard
        self.bits, self.group, self.n, self.k = bits, group, n, k
        self.dtype = DTYPES[dtype]
        self.table_kind = table_kind
        self.table_words = table_words
        self.offsets = offsets
        self.packed_bytes = self.core.packed_bytes
        self.panel_bytes = self.core.panel_bytes  # of them; the plane of scales follows
        kind = f"{table_kind} {_OFFSETS}" if offsets else table_kind
        self.line = f"{VERSION} w{bits} g{group or CHANNEL} {n}x{k} {dtype} {kind} {_big_endian(table_words).hex()}"
        if hadamard is not None:
            self.line += f" {hadamard}"

    @property
    def table(self) -> tuple[float, ...]:
        """The values behind the codes, as they are stored."""
        words = torch.frombuffer(bytearray(self.table_words), dtype=self.dtype)
        return tuple(words.to(torch.float32).tolist())

    def with_shape(self, n: int, k: int, group: int | None = None) -> Format:
        """The format of another matrix, if asked for in other groups, with everything else the same."""
        name = DTYPE_NAMES[self.dtype]
        group = self.group if group is None else group
        same = Format(self.bits, group, n, k, name, self.table_kind, self.table_words, self.offsets, self.hadamard)
        return known(same.line)

    def with_offsets(self) -> Format:
        """The format of the same matrix with an offset beside each scale."""
        name = DTYPE_NAMES[self.dtype]
        return known(Format(self.bits, self.group, self.n, self.k, name, self.table_kind, self.table_words, True).line)

    def describe(self) -> str:
        """For messages: without the values."""
        words = self.line.split(" ")
        del words[_TABLE_WORD + self.offsets]
        return " ".join(words[1:])


def _big_endian(words: bytes) -> bytes:
    if sys.byteorder == "big":
        return words
    swapped = array.array("H", words)
    swapped.byteswap()
    return swapped.tobytes()


_known: dict[str, Format] = {}


def known(line: str) -> Format:
    """The format that a line describes. Raises Error where it describes none."""
    found = _known.get(line)
    if found is None:
        found = _known[line] = _parse(line)
    return found


def _parse(line: str) -> Format:
    words = line.split(" ")
    if words[0] != VERSION:
        raise Error(
            f"format: '{_shown(line)}' is of another version than this release's ({VERSION}); quantize the weights "
            "again, or use the release that packed them"
        )
    try:
        offsets = words[_TABLE_WORD : _TABLE_WORD + 1] == [_OFFSETS]
        if offsets:
            del words[_TABLE_WORD]
        _, bits, group, shape, dtype, kind, table, *transform = words
        hadamard = _parse_hadamard(*transform) if transform else None
        n, k = shape.split("x")
        table_words = _big_endian(bytes.fromhex(table))
        format = Format(
            int(bits.removeprefix("w")),
            0 if group == f"g{CHANNEL}" else int(group.removeprefix("g")),
            int(n),
            int(k),
            dtype,
            kind,
            table_words,
            offsets,
            hadamard,
        )
    except (ValueError, KeyError, TypeError) as wrong:
        raise Error(f"format: '{_shown(line)}' is none ({wrong}); take PackedWeight.format as it is") from None
    if format.line != line:
        raise Error(f"format: '{_shown(line)}' is written otherwise than PackedWeight.format: '{_shown(format.line)}'")
    return format


def _parse_hadamard(word: str) -> Hadamard:
    block, seed = word.removeprefix("h").split(":")
    return Hadamard(int(block), int(seed))


def _shown(line: str) -> str:
    return line if len(line) <= 80 else line[:77] + "..."
