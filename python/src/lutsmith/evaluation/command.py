"""`lutsmith evaluate`: models of transformers, compared on texts."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lutsmith._core import Error
from lutsmith.command_inputs import load_model, texts_of

__all__ = ["main"]

_EPILOG = """examples:
  lutsmith evaluate packed --reference model --text alice.txt
  lutsmith evaluate nf4=packed4 nf3=packed3 --reference model --text wiki.txt code.txt --window 2048 --svg loss.svg
"""


def main(arguments: Sequence[str]) -> int:
    """0, 1 where the work failed; exits with 2 for arguments that are wrong."""
    given = _parser().parse_args(arguments)
    try:
        comparisons = _compare(given)
        if given.svg is not None:
            from lutsmith.evaluation.picture import draw

            given.svg.write_text(draw(comparisons), encoding="utf-8")
    except (Error, OSError, ValueError, ImportError) as error:  # transformers' own are of the last three
        print(f"lutsmith evaluate: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps([each.document() for each in comparisons], indent=1, ensure_ascii=False))
    else:
        print("\n".join(each.markdown() for each in comparisons), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lutsmith evaluate",
        description="Tells how much worse models are than the one that they were quantized from: bits, perplexity, "
        "divergence and agreement on texts, with intervals. One model is in memory at a time.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", metavar="[NAME=]MODEL", help="folders or names of models of transformers")
    parser.add_argument("--text", nargs="+", required=True, type=Path, help="text, or token numbers in *.json or *.pt")
    parser.add_argument("--reference", metavar="[NAME=]MODEL", help="what to compare with: the 16-bit model")
    parser.add_argument("--tokenizer", help="folder or name; default: the reference's, else the first model's")
    parser.add_argument("--window", type=int, default=512, help="tokens that a model reads at once; default: 512")
    parser.add_argument("--stride", type=int, help="tokens between windows; default: the window")
    parser.add_argument("--batch", type=int, default=1, help="windows side by side; default: 1")
    parser.add_argument("--tokens", type=int, help="at most so many, of each text's beginning")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument("--logits", type=Path, help="folder for the reference's logits; default: a temporary one")
    parser.add_argument("--svg", type=Path, help="file for a picture of loss against bits")
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    return parser


def _compare(given: argparse.Namespace) -> list[Any]:
    from lutsmith.evaluation import Comparison, Entry, Reference, evaluate, model_size
    from lutsmith.evaluation.windows import Windows

    wanted = [*([given.reference] if given.reference else []), *given.models]
    named = [_named(each) for each in wanted]
    names = [name for name, _ in named]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Error(f"models: {twice[0]} is given twice; give each a name of its own, as first={twice[0]}")
    texts = list(texts_of(given.text, given.tokenizer or named[0][1], given.tokens))
    settings = {"window": given.window, "stride": given.stride, "batch": given.batch}
    for _, tokens in texts:
        Windows(tokens, given.window, given.stride)  # refuses what is wrong before a model is loaded
    entries: list[list[Entry]] = [[] for _ in texts]
    references: list[Reference | None] = [None for _ in texts]
    with ExitStack() as stack:
        for name, source in named:
            model = load_model(source, given.device)
            size = model_size(model)
            for index, (_, tokens) in enumerate(texts):
                scored = model
                if given.reference and references[index] is None:
                    folder = given.logits or Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    folder /= str(index)
                    scored = references[index] = Reference.record(model, tokens, **settings, folder=folder)
                found = evaluate(scored, tokens, references[index], **settings)
                entries[index].append(Entry(name, found, size.bits_per_weight, size.model_bits_per_weight))
                said = f"{name}: {texts[index][0]}: perplexity {found.perplexity.value:.3f}"
                print(said, file=sys.stderr, flush=True)
            del model, scored
    return [Comparison(name, found) for (name, _), found in zip(texts, entries)]


def _named(model: str) -> tuple[str, str]:
    name, equals, source = model.partition("=")
    return (name, source) if equals else (Path(model).name, model)
