"""What packed bytes mean, as a line of text that operators take and checkpoints keep.

v1 w4 g64 4096x14336 f16 scalar bc00b992...3c00 h1024:0
 |  |  |   |    |     |    |        |              |
 |  |  |   n    k     |    |        |              Hadamard transform of x and of W's rows, if any: block, seed
 |  |  |              |    |        |              (-1: without signs)
 |  |  |              |    |        values behind the codes, 16-bit floats of the type in hexadecimal
 |  |  weights that   |    "scalar": one value for each code; "pair": two for every two codes along k;
 |  |                 |    "row": one for each code and row, among the packed bytes and not in this line
 |  |  share a scale, |
 |  |  or "channel"   type of x, y, scales and values: f16 or bf16
 |  bits of a code
 version of the packed bytes and of this line

Where weights have an offset beside each scale, the word "offsets" stands before the values. Where rows come in segments
with tables of their own, their numbers of rows do so, such as "s4096+1024+1024", and the values of each table follow one
another.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from typing import Any

from lutsmith import _core
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.hadamard import Hadamard
from lutsmith.hadamard import check as check_hadamard

VERSION = "v1"
CHANNEL = "channel"
_OFFSETS = "offsets"
_SEGMENTS = "s"
MOST_SEGMENTS = 4
#: What segments of rows are multiples of, but for the last; the larger, the more kernels there are.
SEGMENT_ROWS = (256, 128, 64, 32)
ROW = "row"
TABLE_KINDS = ("scalar", "pair", ROW)
GROUPS = (256, 128, 64, 32)  # that kernels have, besides one for each row

DTYPES: dict[str, torch.dtype] = {"f16": torch.float16, "bf16": torch.bfloat16}
DTYPE_NAMES: dict[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}
_TABLE_WORD = 6  # of the line: the values, or what stands before them
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
        "segment_rows",
        "segments",
        "table_bytes",
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
        segments: Sequence[int] = (),
    ) -> None:
        """group: 0 for one scale a row. table_words: 16-bit floats of dtype, in the machine's order of bytes.

        hadamard: the transform that x goes through before it is multiplied, as the rows of W did before they were
        quantized. segments: rows of each with a table of its own, in all n; `table_words` has one table behind
        another. Raises Error for what cannot be packed.
        """
        if table_kind not in TABLE_KINDS:
            raise Error(f"table: kind {table_kind!r} is not allowed; allowed: {', '.join(TABLE_KINDS)}")
        length = {"scalar": 2**bits, "pair": 2 * 4**bits, ROW: 0}[table_kind]
        tables = max(1, len(segments))
        if 1 <= bits <= 8 and len(table_words) != 2 * length * tables:
            of_segments = f", of {tables} segments" if segments else ""
            raise Error(
                f"table: {len(table_words) // 2} values given; {bits} bits, {table_kind} take {length}{of_segments}"
            )
        self.segments = tuple(segments)
        self.segment_rows = _segment_rows(self.segments, n, table_kind)
        #: The same without a transform: what the packed bytes are by themselves. Both have the same kernels.
        self.plain: Format = self
        if hadamard is None:
            given = (bits, group, n, k, dtype, table_kind, table_words, offsets, self.segments, self.segment_rows)
            self.core = _core.Format(*given)
        else:
            self.plain = known(Format(bits, group, n, k, dtype, table_kind, table_words, offsets, None, segments).line)
            self.core = self.plain.core
            check_hadamard(hadamard, k)
        self.hadamard = hadamard
        self.bits, self.group, self.n, self.k = bits, group, n, k
        self.dtype = DTYPES[dtype]
        self.table_kind = table_kind
        self.table_words = table_words
        self.offsets = offsets
        self.packed_bytes = self.core.packed_bytes
        self.panel_bytes = self.core.panel_bytes  # of them; the plane of scales follows, and then
        self.table_bytes = self.core.table_bytes  # tables of rows
        kind = f"{table_kind} {_OFFSETS}" if offsets else table_kind
        if segments:
            kind += f" {_SEGMENTS}{'+'.join(map(str, segments))}"
        self.line = f"{VERSION} w{bits} g{group or CHANNEL} {n}x{k} {dtype} {kind}"
        if table_kind != ROW:
            self.line += f" {_big_endian(table_words).hex()}"
        if hadamard is not None:
            self.line += f" {hadamard}"

    @property
    def table(self) -> tuple[float, ...]:
        """The values behind the codes, as they are stored; of segments one table behind another. Where rows have tables:
        none, as those are among the packed bytes."""
        if not self.table_words:
            return ()
        words = torch.frombuffer(bytearray(self.table_words), dtype=self.dtype)
        return tuple(words.to(torch.float32).tolist())

    def with_shape(self, n: int, k: int, group: int | None = None) -> Format:
        """The format of another matrix, if asked for in other groups, with everything else the same.

        Segments stay as they are, so that with them n does too; `with_tables` gives others.
        """
        return self._changed(n=n, k=k, group=self.group if group is None else group)

    def with_offsets(self) -> Format:
        """The format of the same matrix with an offset beside each scale, untransformed."""
        return self._changed(offsets=True, hadamard=None)

    def with_tables(self, tables: Sequence[tuple[int, bytes]]) -> Format:
        """The format of segments of rows, each given by its rows and the words of its table; neighbours of the same
        table are one. n is what they have in all; everything else is the same."""
        segments, words = zip(*merged(tables))
        return self._changed(
            n=sum(segments), table_words=b"".join(words), segments=segments if len(segments) > 1 else ()
        )

    def tables(self) -> list[tuple[int, bytes]]:
        """Rows of each segment and the words of its table: the inverse of `with_tables`. Without segments: of all
        rows."""
        segments = self.segments or (self.n,)
        size = len(self.table_words) // len(segments)
        words = [self.table_words[size * i : size * (i + 1)] for i in range(len(segments))]
        return list(zip(segments, words))

    def _changed(self, **other: Any) -> Format:
        fields = ("bits", "group", "n", "k", "table_kind", "table_words", "offsets", "hadamard", "segments")
        given = {name: getattr(self, name) for name in fields} | {"dtype": DTYPE_NAMES[self.dtype]} | other
        return known(Format(**given).line)

    def describe(self) -> str:
        """For messages: without the values."""
        words = self.line.split(" ")
        if self.table_kind != ROW:
            del words[_TABLE_WORD + self.offsets + bool(self.segments)]
        return " ".join(words[1:])


def merged(tables: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Neighbours that have the same words as one, with the rows of both."""
    found: list[tuple[int, bytes]] = []
    for rows, words in tables:
        if found and found[-1][1] == words:
            rows += found.pop()[0]
        found.append((rows, words))
    return found


def _segment_rows(segments: tuple[int, ...], n: int, table_kind: str) -> int:
    """The most that all segments but the last are multiples of; 0: there are none."""
    if not segments:
        return 0
    for allowed in SEGMENT_ROWS:
        if all(rows > 0 and rows % allowed == 0 for rows in segments[:-1]):
            break
    else:
        allowed = 0
    if not allowed or not 2 <= len(segments) <= MOST_SEGMENTS or segments[-1] < 1 or sum(segments) != n:
        raise Error(
            f"segments: {', '.join(map(str, segments))} rows are not allowed; allowed: 2 to {MOST_SEGMENTS}, in all {n}, "
            f"and multiples of {SEGMENT_ROWS[-1]} but for the last"
        )
    if table_kind != "scalar":
        raise Error(f"segments: not allowed with tables of kind {table_kind}; allowed: scalar")
    return allowed


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
        segments: tuple[int, ...] = ()
        if words[_TABLE_WORD - 1] == ROW:
            words.insert(_TABLE_WORD, "")
        if words[_TABLE_WORD][:1] == _SEGMENTS:  # which is no hexadecimal digit
            segments = tuple(map(int, words.pop(_TABLE_WORD)[1:].split("+")))
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
            segments,
        )
    except (ValueError, KeyError, TypeError, IndexError) as wrong:
        raise Error(f"format: '{_shown(line)}' is none ({wrong}); take PackedWeight.format as it is") from None
    if format.line != line:
        raise Error(f"format: '{_shown(line)}' is written otherwise than PackedWeight.format: '{_shown(format.line)}'")
    return format


def _parse_hadamard(word: str) -> Hadamard:
    block, seed = word.removeprefix("h").split(":")
    return Hadamard(int(block), int(seed))


def _shown(line: str) -> str:
    return line if len(line) <= 80 else line[:77] + "..."
