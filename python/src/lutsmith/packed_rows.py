"""Packed weights by rows: several laid below one another, and some taken out. Nothing is quantized again.

Packed bytes are panels of 32 rows, one behind the other, and behind them a plane of scales (where groups are larger
than a panel is wide; offsets are beside scales) and one of tables (where rows have their own), again by 32 rows. So weights whose rows come in thirty-twos are joined
and cut by copying pieces of bytes, on the device where they are; others take codes, scales and offsets out and pack
them anew, on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from lutsmith import codes as code_packing
from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.codes import Parts
from lutsmith.packed_weight import PackedWeight

__all__ = ["concatenate", "interleave_gate", "rows"]

PANEL_ROWS = 32
#: Rows of a gate that lie together in weights for gated_matmul, with as many of what it lets through behind them.
GATE_ROWS = 8


def concatenate(members: Sequence[PackedWeight]) -> PackedWeight:
    """The rows of all members in one weight: [N1, K], [N2, K], ... -> [N1 + N2 + ..., K].

    For the members of a fused layer (q, k and v; gate and up), which then take one launch instead of one each:
    `matmul(x, concatenate(members)).split([n1, n2, ...], -1)`. Codes, scales and table are the members' own. Where
    every member but the last has a multiple of 32 rows, bytes are copied on the device where they are.

    Members may bring tables of their own: up to 4 different ones, scalar, where rows whose table is another one than
    the next rows' are multiples of 32 (of 128 for kernels for many tokens). `PackedWeight.segments` says which rows
    have which.

    Raises:
        Error: where members differ in more than N and the table: in bits, group, K, dtype, kind of table, offsets,
            transform or device; for tables that one weight cannot have. Quantize them alike, or multiply by each:
            `matmul(x, members)`.
    """
    members = list(members)
    for member in members:
        if not isinstance(member, PackedWeight):
            raise Error(
                f"members: {type(member).__name__} is not allowed; allowed: what lutsmith.quantize makes of a matrix"
            )
    if not members:
        raise Error("members: none given; give at least one packed weight")
    reason = why_apart([(member.format, member.device) for member in members])
    if reason is not None:
        raise Error(
            f"members: {reason}: not allowed; allowed: members that differ in nothing but N and the values of their "
            "tables; quantize them alike, or give matmul a list of them, which takes a launch for each"
        )
    if len(members) == 1:
        return members[0]
    known = [formats.known(member.format) for member in members]
    joined = known[0].with_tables([table for one in known for table in one.tables()])
    if any(member.n % PANEL_ROWS for member in members[:-1]):
        parts = Parts(*(None if of_all[0] is None else torch.cat(of_all) for of_all in zip(*map(unpack, members))))
        return pack(parts, joined, members[0].device)
    cut = [member.data.split(_parts(one)) for member, one in zip(members, known)]
    return PackedWeight(torch.cat([part for of_all in zip(*cut) for part in of_all]), joined.line)


def interleave_gate(gate: PackedWeight, up: PackedWeight) -> PackedWeight:
    """Gate and up [F, K] in one weight [2 F, K] for :func:`lutsmith.gated_matmul`: 8 rows of gate, 8 of up, in turn.

    Codes, scales and table are the members' own; nothing is quantized again. Bytes are moved on the device where they
    are.

    Raises:
        Error: where the two differ in anything (in their tables too: a kernel has one), or F is no multiple of 8.
    """
    for name, member in (("gate", gate), ("up", up)):
        if not isinstance(member, PackedWeight):
            raise Error(f"{name}: {type(member).__name__} is not allowed; allowed: a packed weight")
    reason = why_apart([(gate.format, gate.device), (up.format, up.device)], one_table=True)
    if reason is None and gate.n != up.n:
        reason = f"N {gate.n} and {up.n}"
    if reason is not None:
        raise Error(
            f"gate and up: {reason}: not allowed; allowed: two of one shape, format and table; quantize them alike, or "
            "multiply by each and apply the activation to the products"
        )
    if gate.n % GATE_ROWS:
        raise Error(f"gate: {gate.n} rows are not allowed; allowed: multiples of {GATE_ROWS}")
    format = formats.known(gate.format)
    joined = format.with_shape(2 * gate.n, gate.k)
    whole = []
    for of_gate, of_up in zip(_halves_of_records(gate.data, format), _halves_of_records(up.data, format)):
        # [panel, column, record, item, half, bytes] of each: a half of a record becomes one half of a record.
        both = torch.stack([of_gate, of_up], -2)  # [panel, column, record, item, half, which, bytes]
        whole.append(both.permute(0, 2, 1, 4, 3, 5, 6).flatten(0, 1)[: _panels(joined)])
    return PackedWeight(_bytes_of_records(whole), joined.line)


def separate_gate(packed: PackedWeight) -> tuple[PackedWeight, PackedWeight]:
    """Gate and up of what :func:`interleave_gate` made of them."""
    together = formats.known(packed.format)
    format = together.with_shape(packed.n // 2, packed.k)
    members: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for part in _halves_of_records(packed.data, together):
        if part.shape[0] % 2:  # its last panel has rows of one panel's first record
            part = torch.cat([part, torch.zeros_like(part[:1])])
        # [panel, column, record, item, half, which, bytes]
        apart = part.unflatten(0, (-1, 2)).permute(0, 2, 1, 4, 3, 5, 6)
        for which, member in enumerate(members):
            member.append(apart.select(-2, which))
    gate, up = (PackedWeight(_bytes_of_records(member), format.line) for member in members)
    return gate, up


_RECORD_ROWS = 16
_RECORD_COLUMNS = 128
_WORD_BYTES = 2  # of scales and offsets


def _panels(format: formats.Format) -> int:
    return -(-format.n // PANEL_ROWS)


def _halves_of_records(data: torch.Tensor, format: formats.Format) -> list[torch.Tensor]:
    """Codes, scales in records, the plane of scales and the tables of rows: [panel, column, record, item, half, bytes] of
    each.

    A panel of 32 rows has two records of 16 for each 128 columns (in the plane, for each group). In these, bytes of
    codes and words of scales and offsets take turns: one is of a row of the first eight, the next of the row eight
    below it (docs/kernels.md has the layout).
    """
    panels = _panels(format)
    in_panels, in_plane, tables = data.split(_parts(format))
    columns = -(-format.k // _RECORD_COLUMNS)
    records = in_panels.view(panels, columns, PANEL_ROWS // _RECORD_ROWS, -1)
    code_bytes = _RECORD_ROWS * _RECORD_COLUMNS * format.bits // 8
    codes, scales = records[..., :code_bytes], records[..., code_bytes:]
    group_bytes = _RECORD_ROWS * _WORD_BYTES * (2 if format.offsets else 1)
    plane = in_plane.view(panels, in_plane.numel() // (panels * 2 * group_bytes), 2, group_bytes)
    # Those of rows lie one behind the other, without taking turns.
    by_row = tables.view(panels, 1, 2, 2, _RECORD_ROWS // 2, tables.numel() // (panels * PANEL_ROWS)).transpose(3, 4)
    return [
        codes.unflatten(-1, (code_bytes // 2, 2, 1)),
        *(part.unflatten(-1, (part.shape[-1] // (2 * _WORD_BYTES), 2, _WORD_BYTES)) for part in (scales, plane)),
        by_row,
    ]


def _bytes_of_records(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The inverse of `_halves_of_records`."""
    *in_records, by_row = parts
    codes, scales, plane = (part.flatten(3) for part in in_records)
    return torch.cat([torch.cat([codes, scales], -1).flatten(), plane.flatten(), by_row.transpose(3, 4).flatten()])


def why_apart(
    members: Sequence[tuple[str, torch.device]], one_table: bool = False, segment_rows: int = PANEL_ROWS
) -> str | None:
    """Why weights of these formats and devices cannot be one: what they differ in, or the tables that they have.

    None: they can, by `concatenate`. one_table: all rows are to have the same. segment_rows: what rows of a table of
    their own are to be multiples of, but for the last ones.
    """
    (first_line, first_device), *others = members
    first = formats.known(first_line)
    for line, device in others:
        known = formats.known(line)
        for name, one, other in (
            ("bits", first.bits, known.bits),
            ("group", first.group or formats.CHANNEL, known.group or formats.CHANNEL),
            ("K", first.k, known.k),
            ("dtype", first.dtype, known.dtype),
            ("kind of table", first.table_kind, known.table_kind),
            ("offsets", first.offsets, known.offsets),
            ("hadamard", first.hadamard, known.hadamard),
            ("device", first_device, device),
        ):
            if one != other:
                return f"{name} {one} and {other}"
    tables = [table for line, _ in members for table in formats.known(line).tables()]
    if len({words for _, words in tables}) == 1:
        return None
    if one_table:
        return "different tables"
    if first.table_kind != "scalar":
        return f"different tables of kind {first.table_kind}"
    segments = formats.merged(tables)
    if len(segments) > formats.MOST_SEGMENTS:
        return f"{len(segments)} different tables, where {formats.MOST_SEGMENTS} is the most"
    for rows, _ in segments[:-1]:
        if rows % segment_rows:
            return f"different tables, and {rows} rows of one that is not the last are no multiple of {segment_rows}"
    return None


def rows(weight: PackedWeight, start: int, stop: int) -> PackedWeight:
    """Rows from `start` up to `stop` of W [N, K], any: the part of a rank where a layer is column-parallel.

    Its product is that part of the whole product. It has memory of its own, so that the whole can be given back.

    Raises:
        Error: for rows that the weight does not have; where it has segments, for a `start` that leaves one of them, but
            the last, no multiple of 32 rows.
    """
    check_part("rows", start, stop, weight.n)
    known = formats.known(weight.format)
    part = known.with_tables(_tables_of(known, start, stop))
    if start % PANEL_ROWS or (stop % PANEL_ROWS and stop != known.n):
        some = Parts(*(None if of_all is None else of_all[start:stop] for of_all in unpack(weight)))
        return pack(some, part, weight.device)
    return PackedWeight(torch.cat([weight.data[piece] for piece in pieces(known, start, stop)]), part.line)


def _tables_of(format: formats.Format, start: int, stop: int) -> list[tuple[int, bytes]]:
    """Those of some rows, as `Format.with_tables` takes them."""
    found, first = [], 0
    for of_table, words in format.tables():
        some = min(stop, first + of_table) - max(start, first)
        if some > 0:
            found.append((some, words))
        first += of_table
    return found


def pieces(format: formats.Format, start: int, stop: int) -> list[slice]:
    """Where the bytes of these rows stand among those of a matrix of `format`, in the order in which the rows alone
    would have them. `start` is a multiple of 32, and so is `stop` unless it is n."""
    panels = -(-format.n // PANEL_ROWS)
    found, first = [], 0
    for part in _parts(format):
        of_panel = part // panels
        if of_panel:
            found.append(slice(first + start // PANEL_ROWS * of_panel, first + -(-stop // PANEL_ROWS) * of_panel))
        first += part
    return found


def _parts(format: formats.Format) -> list[int]:
    """Bytes of all panels, of the plane of scales and of the tables of rows, which follow one another."""
    scales = format.packed_bytes - format.panel_bytes - format.table_bytes
    return [format.panel_bytes, scales, format.table_bytes]


def check_part(what: str, start: int, stop: int, size: int) -> None:
    if not 0 <= start < stop <= size:
        raise Error(f"{what}: {start} to {stop} is not allowed; allowed: 0 <= start < stop <= {size}")


def unpack(weight: PackedWeight) -> Parts:
    """Scales and offsets are 16-bit words; on the CPU."""
    return code_packing.unpack_words(weight.data, formats.known(weight.format))


def pack(parts: Parts, format: formats.Format, device: torch.device) -> PackedWeight:
    """The inverse of `unpack`, on `device`."""
    return PackedWeight(code_packing.pack_words(parts, format).to(device), format.line)
