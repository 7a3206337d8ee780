version: str

class Error(RuntimeError):
    code: str
    context: str

class Format:
    packed_bytes: int
    def __init__(
        self, bits: int, group: int, n: int, k: int, dtype: str, table_kind: str, table: bytes, /
    ) -> None: ...
    def quantize(
        self, weights: int, type: str, stride: int, table: bytes, packed: int, threads: int, /
    ) -> float: ...
    def dequantize(
        self, packed: int, first_row: int, rows: int, weights: int, type: str, stride: int, threads: int, /
    ) -> None: ...
    def pack(self, codes: int, scales: int, packed: int, /) -> None: ...
    def unpack(self, packed: int, codes: int, scales: int, /) -> None: ...

def table(method: str, bits: int, /) -> list[float]: ...
