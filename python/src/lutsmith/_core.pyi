from collections.abc import Callable

import torch

version: str

class Error(RuntimeError):
    code: str
    context: str

class Format:
    packed_bytes: int
    panel_bytes: int
    table_bytes: int
    def __init__(
        self,
        bits: int,
        group: int,
        n: int,
        k: int,
        dtype: str,
        table_kind: str,
        table: bytes,
        offsets: bool,
        segments: tuple[int, ...],
        segment_rows: int,
        /,
    ) -> None: ...
    def quantize(
        self,
        weights: int,
        type: str,
        stride: int,
        table: bytes,
        packed: int,
        threads: int,
        scales: str,
        importance: int,
        /,
    ) -> float: ...
    def learn_table(
        self, weights: int, type: str, stride: int, threads: int, importance: int, /
    ) -> list[float]: ...
    def dequantize(
        self, packed: int, first_row: int, rows: int, weights: int, type: str, stride: int, threads: int, /
    ) -> None: ...
    def pack(self, codes: int, scales: int, offsets: int, tables: int, packed: int, /) -> None: ...
    def unpack(self, packed: int, codes: int, scales: int, offsets: int, tables: int, /) -> None: ...
    def load(self, service: object, device: int, m: int, variant: int, /) -> str: ...
    def launch(
        self,
        device: int,
        stream: int,
        x: int,
        weights: int,
        y: int,
        m: int,
        x_stride: int,
        y_stride: int,
        variant: int,
        residual: int,
        residual_stride: int,
        bias: int,
        /,
    ) -> int: ...
    def multiply(
        self,
        x: torch.Tensor,
        weights: torch.Tensor,
        empty: Callable[[tuple[int, ...], tuple[int, ...], torch.dtype], torch.Tensor],
        dtype: torch.dtype,
        variant: int,
        bias: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
        /,
    ) -> torch.Tensor | None: ...

def table(method: str, bits: int, /) -> list[float]: ...
def open_service(nvrtc: str | None, /) -> object: ...
def token_bucket(m: int, /) -> int: ...
def is_capturing(stream: int, /) -> bool: ...
def add_workspace(service: object, device: int, stream: int, captured: bool, /) -> None: ...
def count_workspaces(device: int, captured: bool, /) -> int: ...
def exchange_tensors(interface: object, device_type: int, /) -> bool: ...
