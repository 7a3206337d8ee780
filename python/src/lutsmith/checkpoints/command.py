"""`lutsmith import`: a quantized model of another library becomes a folder of transformers with packed weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lutsmith._core import Error

__all__ = ["main"]

_EPILOG = """examples:
  lutsmith import model-GPTQ-Int4 packed
  lutsmith import model-Q4_K_M.gguf packed --requantize --method nf
"""


def main(arguments: Sequence[str]) -> int:
    """0, 1 where the work failed; exits with 2 for arguments that are wrong."""
    parser = argparse.ArgumentParser(
        prog="lutsmith import",
        description="Carries the codes of bitsandbytes, GPTQ, AWQ, compressed-tensors, MXFP4, FLUTE, HIGGS and GGUF "
        "over into a folder that transformers loads with packed weights.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="folder of a model, or its GGUF file")
    parser.add_argument("target", help="folder to be written")
    parser.add_argument("--dtype", choices=("f16", "bf16"), help="default: the type that holds the scales exactly")
    parser.add_argument("--requantize", action="store_true", help="what no kernel multiplies is quantized again")
    methods = ("nf", "int", "fp", "lloyd", "kmeans")
    parser.add_argument("--method", choices=methods, help="with --requantize; default: nf")
    parser.add_argument("--bits", type=int, help="with --requantize; default: those of the others, else 4")
    parser.add_argument("--group", type=int, help="with --requantize; default: that of the others, else 64")
    parser.add_argument(
        "--scales", choices=("absmax", "mse"), help="with --requantize; default: mse with lloyd and kmeans, else absmax"
    )
    given = parser.parse_args(arguments)
    keys = ("method", "bits", "group", "scales")
    options = {key: value for key in keys if (value := getattr(given, key)) is not None}
    if options and not given.requantize:
        parser.error(f"--{next(iter(options))} is of --requantize, which is not given")

    from lutsmith import formats
    from lutsmith.checkpoints.conversion import convert

    try:
        report = convert(
            given.source,
            given.target,
            dtype=formats.DTYPES.get(given.dtype or ""),
            requantize=options or given.requantize,
        )
    except Error as error:
        print(f"lutsmith import: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0
