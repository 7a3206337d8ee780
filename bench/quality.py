"""What quantizers leave of a model, by bits, groups and methods, on text like the calibration's and on other text.

    python bench/quality.py --rows build/quality.jsonl                 # SmolLM2-135M; goes on where it was interrupted
    python bench/quality.py MODEL --rows rows.jsonl --device cuda --tokens 8192 --calibration-tokens 65536
    python bench/quality.py --rows build/quality.jsonl --report        # only the tables of what has run

A row is written as it is done, with the sums of each window, so that methods are compared on the same windows. Layers
are replaced by what their packed weights stand for, in float32, so that all methods are compared in the same
arithmetic; the head and the embedding stay as they are.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from quality_report import Row, report
from quality_texts import calibration_text, evaluation_texts

import lutsmith
from lutsmith.awq import scale_channels
from lutsmith.evaluation import Evaluation, Reference, evaluate, packed_bytes
from lutsmith.gptq import quantize_with_feedback
from lutsmith.model_layers import packable_layers

Packed = dict[str, lutsmith.PackedWeight]
Change = Callable[[str, torch.Tensor], lutsmith.PackedWeight]  # name and weight

#: The methods that are quick, which every group is measured with; and those that one group is.
QUICK = ("int", "nf", "lloyd", "higgs", "nf+importance")
SLOW = ("awq", "awq+nf", "awq+nf+importance", "gptq+nf", "nfl", "kmeans+importance", "awq+nfl")


@dataclass
class Study:
    """The model, and what methods may see of the text to calibrate on."""

    model: Any
    calls: list[torch.Tensor]  #: [1, length] each; the last quarter judges what was learned from the others
    learning_rate: float
    epochs: int
    _statistics: dict[str, Any] | None = None

    def statistics(self, model: Any, hessians: bool) -> dict[str, Any]:
        """Of the 16-bit model once (twice where Hessians are wanted later); of one with scaled channels each time."""
        if model is not self.model:
            return lutsmith.calibrate(model, self.calls, list(packable_layers(model)), hessians=hessians)
        if self._statistics is None or (hessians and next(iter(self._statistics.values())).hessian is None):
            layers = list(packable_layers(self.model))
            self._statistics = lutsmith.calibrate(self.model, self.calls, layers, hessians=hessians)
        return self._statistics

    def pack(self, method: str, bits: int, group: int) -> tuple[Any, Packed]:
        """The model that was packed (another one where channels were scaled), and its packed weights."""
        model = self.model
        settings = {"bits": bits, "group": group}
        if method.startswith("awq"):  # the paper's own table is of integers
            method = method.partition("+")[2] or "int"
            model = copy.deepcopy(model)
            scale_channels(model, self.calls, method="int" if method == "int" else "nf", **settings)
        if method == "nfl":
            judges = max(1, len(self.calls) // 4)
            learned = lutsmith.learn_scales(
                model,
                self.calls[:-judges],
                held_out=self.calls[-judges:],
                check_every=max(1, (len(self.calls) - judges) // 3),
                learning_rate=self.learning_rate,
                epochs=self.epochs,
                recompute=next(model.parameters()).is_cuda,
                **settings,
            )
            return model, learned.packed
        change = self._change(model, method, settings)
        return model, {name: change(name, layer.weight.detach()) for name, layer in packable_layers(model).items()}

    def _change(self, model: Any, method: str, settings: dict[str, Any]) -> Change:
        if method == "gptq+nf":
            seen = self.statistics(model, hessians=True)
            return lambda name, weight: quantize_with_feedback(weight, seen[name].hessian, **settings).packed
        method, _, weighed = method.partition("+")
        if not weighed:
            return lambda name, weight: lutsmith.quantize(weight, method=method, **settings)
        settings = {**settings, "method": method, "scales": "mse"}
        seen = self.statistics(model, hessians=False)
        return lambda name, weight: lutsmith.quantize(weight, importance=seen[name].mean_square, **settings)


def rows_wanted(bits: list[int], groups: list[int], slow_groups: list[int], methods: list[str]) -> Iterator[tuple]:
    """(method, bits, group), those that decide most first."""
    for group in slow_groups:
        for width in bits:
            yield from ((method, width, group) for method in methods)
    for group in groups:
        if group not in slow_groups:
            for width in bits:
                yield from ((method, width, group) for method in methods if method in QUICK)


def dequantized(model: Any, packed: Packed) -> Any:
    model = copy.deepcopy(model)
    for name, each in packed.items():
        model.get_submodule(name).weight.data = each.dequantize(torch.float32)
    return model


def bits_per_weight(packed: Packed) -> float:
    return (
        8
        * sum(packed_bytes(each.format) for each in packed.values())
        / sum(each.n * each.k for each in packed.values())
    )


class RowFile:
    """Rows as they come, a line each, below one that says of what they are."""

    def __init__(self, path: Path, about: dict[str, Any] | None) -> None:
        """about: None: whatever the file is of."""
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        if not lines:
            if about is None:
                raise SystemExit(f"quality.py: {path}: holds no rows; run it without --report first")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(about) + "\n")
            lines = [json.dumps(about)]
        self.about = json.loads(lines[0])
        if about is not None and about != self.about:
            different = [key for key in {**about, **self.about} if about.get(key) != self.about.get(key)]
            raise SystemExit(
                f"quality.py: {path}: rows of another study ({', '.join(different)}); name another file by --rows"
            )
        self.rows = [Row.read(json.loads(line)) for line in lines[1:]]

    def has(self, method: str, bits: int, group: int) -> bool:
        return any((row.method, row.bits, row.group) == (method, bits, group) for row in self.rows)

    def add(self, row: Row) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row.document()) + "\n")
        self.rows.append(row)


def numbers_of(tokenizer: Any, text: str) -> torch.Tensor:
    return torch.tensor(tokenizer(text)["input_ids"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="folder or name of a model of transformers; default: SmolLM2-135M")
    parser.add_argument("--rows", type=Path, required=True, help="file of the rows that have run; is gone on with")
    parser.add_argument("--report", action="store_true", help="only print the tables of the rows that have run")
    parser.add_argument("--bits", default="4,3,2")
    parser.add_argument("--groups", default="32,64,128,256", help=f"of {', '.join(QUICK)}")
    parser.add_argument("--slow-groups", default="64", help="of all methods")
    parser.add_argument("--methods", nargs="+", default=[*QUICK, *SLOW])
    parser.add_argument("--tokens", type=int, default=513, help="of each text that is measured")
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--calibration-tokens", type=int, default=2048)
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence to calibrate on")
    parser.add_argument("--learning-rate", type=float, default=0.003, help="of nfl")
    parser.add_argument("--epochs", type=int, default=1, help="of nfl")
    parser.add_argument(
        "--text", nargs="+", default=[], metavar="NAME=FILE", help="to be measured, instead of the usual"
    )
    parser.add_argument("--calibration", type=Path, help="to calibrate on, instead of the usual")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    if given.report:
        file = RowFile(given.rows, None)
        print(report(file.about, file.rows))
        return
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        if given.model is None:
            sys.path.insert(0, str(Path(__file__).parents[1] / "python" / "examples"))
            import smollm2

            smollm2.write_16_bit_model(Path(folder))
        source = given.model or folder
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).to(given.device)
    written = evaluation_texts() if not given.text else dict(_named_file(each) for each in given.text)
    texts = {name: numbers_of(tokenizer, text)[: given.tokens] for name, text in written.items()}
    seen = numbers_of(tokenizer, given.calibration.read_text() if given.calibration else calibration_text())
    seen = seen[: given.calibration_tokens // given.length * given.length].reshape(-1, 1, given.length)
    about = {
        "model": given.model or "SmolLM2-135M-Instruct (the 16 bits of a 4-bit file)",
        "texts": {name: len(tokens) - 1 for name, tokens in texts.items()},
        "window": given.window,
        "calibration": {"tokens": seen.numel(), "length": given.length},
        "nfl": {"learning_rate": given.learning_rate, "epochs": given.epochs},
    }
    file = RowFile(given.rows, about)
    study = Study(model, [each.to(given.device) for each in seen], given.learning_rate, given.epochs)
    references = {name: Reference.record(model, tokens, given.window) for name, tokens in texts.items()}
    if not file.has("16 bits", 16, 0):
        found = {name: evaluate(each, texts[name], each, given.window) for name, each in references.items()}
        file.add(Row("16 bits", 16, 0, 16.0, 0.0, found))
    bits, groups, slow = (
        [int(each) for each in text.split(",")] for text in (given.bits, given.groups, given.slow_groups)
    )
    for method, width, group in rows_wanted(bits, groups, slow, given.methods):
        if file.has(method, width, group):
            continue
        start = time.monotonic()
        changed, packed = study.pack(method, width, group)
        seconds = time.monotonic() - start
        changed = dequantized(changed, packed)
        found: dict[str, Evaluation] = {
            name: evaluate(changed, tokens, references[name], given.window) for name, tokens in texts.items()
        }
        file.add(Row(method, width, group, bits_per_weight(packed), seconds, found))
        perplexities = ", ".join(f"{name} {each.perplexity.value:.2f}" for name, each in found.items())
        print(
            f"{method} w{width} g{group}: {perplexities}; {seconds:.0f} + {time.monotonic() - start - seconds:.0f} s",
            flush=True,
        )
    print(report(file.about, file.rows))


def _named_file(given: str) -> tuple[str, str]:
    name, _, path = given.partition("=")
    return name, Path(path).read_text()


if __name__ == "__main__":
    main()
