"""`lutsmith plan`: bits and groups for each layer of a model of transformers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lutsmith._core import Error
from lutsmith.command_inputs import load_model, texts_of

__all__ = ["main"]

_EPILOG = """examples:
  lutsmith plan model --size 4.25 --text prose.txt -o plan.json --svg plan.svg
  lutsmith plan model --size 3.5 --text prose.txt --sensitivity layers.json -o plan.json --packed packed
"""


def main(arguments: Sequence[str]) -> int:
    """0, 1 where the work failed; exits with 2 for arguments that are wrong."""
    given = _parser().parse_args(arguments)
    try:
        plan = _plan(given)
        if given.output is not None:
            plan.save(given.output)
        if given.svg is not None:
            from lutsmith.planning.picture import draw

            given.svg.write_text(draw(plan, not given.apart), encoding="utf-8")
        if given.packed is not None:
            _write_packed(given.model, given.packed, plan)
    except (Error, OSError, ValueError, ImportError) as error:  # transformers' own are of the last three
        print(f"lutsmith plan: {error}", file=sys.stderr)
        return 1
    print(json.dumps(plan.document(), indent=1) if given.json else plan.markdown(), end="\n" if given.json else "")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lutsmith plan",
        description="Chooses bits and group of each linear layer, so that the model takes a given size and is predicted "
        "to lose least: by what each layer's error costs on a text.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="folder or name of a model of transformers, in 16 or 32 bits")
    parser.add_argument("--size", type=float, required=True, help="bits a weight at most, with scales and tables")
    parser.add_argument("--text", nargs="+", required=True, type=Path, help="text, or token numbers in *.json or *.pt")
    parser.add_argument("--bits", default="2,3,4", help="to choose from; default: 2,3,4")
    parser.add_argument("--group", default="32,64,128", help="to choose from; default: 32,64,128")
    parser.add_argument("--method", default="nf", help="as for `lutsmith quantize`; default: nf")
    parser.add_argument("--scales", choices=("absmax", "mse"), help="default: mse with lloyd and kmeans, else absmax")
    parser.add_argument(
        "--by-widths", action="store_true", help="measure each number of bits in one group: quicker, and less sure"
    )
    parser.add_argument(
        "--apart", action="store_true", help="q, k and v, and gate and up, may differ: no fused launches"
    )
    parser.add_argument("--tokens", type=int, default=1024, help="at most so many of each text; default: 1024")
    parser.add_argument("--window", type=int, default=256, help="tokens that the model reads at once; default: 256")
    parser.add_argument("--tokenizer", help="folder or name; default: the model's")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument("--sensitivity", type=Path, help="file for what was measured: written, or gone on with")
    parser.add_argument("-o", "--output", type=Path, help="file for the plan, JSON; may be edited")
    parser.add_argument("--svg", type=Path, help="file for a picture of the plan")
    parser.add_argument("--packed", type=Path, help="folder for the model, quantized as planned")
    parser.add_argument("--json", action="store_true", help="print the plan instead of tables")
    return parser


def _plan(given: argparse.Namespace) -> Any:
    from lutsmith.planning import make_plan, measure

    bits = _numbers("--bits", given.bits)
    groups = [each if each == "channel" else _number("--group", each) for each in given.group.split(",")]
    windows = []
    for name, tokens in texts_of(given.text, given.tokenizer or given.model, given.tokens):
        for text in [tokens] if tokens.dim() == 1 else tokens:
            whole = len(text) // given.window * given.window
            if whole == 0:
                raise Error(
                    f"--window: {given.window} is not allowed; allowed: at most {len(text)}, the tokens of {name}"
                )
            windows += text[:whole].reshape(-1, 1, given.window).unbind(0)
    model = load_model(given.model, given.device)

    def tell(name: str, index: int, count: int) -> None:
        print(f"\r{index + 1}/{count} {name}\033[K", end="", file=sys.stderr, flush=True)

    settings = {"bits": bits, "groups": groups, "method": given.method, "scales": given.scales}
    settings["probes"] = "widths" if given.by_widths else "each"
    found = measure(model, windows, **settings, file=given.sensitivity, progress=tell)
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return make_plan(found, given.size, together=not given.apart)


def _write_packed(source: str, folder: Path, plan: Any) -> None:
    load_model(source, "cpu", quantization_config=plan.config()).save_pretrained(folder)
    from transformers import AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    except (OSError, ValueError):
        print(f"lutsmith plan: {source} has no tokenizer; {folder} gets none", file=sys.stderr)


def _numbers(name: str, given: str) -> list[int]:
    return [_number(name, each) for each in given.split(",")]


def _number(name: str, given: str) -> int:
    try:
        return int(given)
    except ValueError as wrong:
        raise Error(f"{name}: {given!r} is not allowed; allowed: numbers, such as 2,3,4") from wrong
