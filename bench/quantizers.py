"""What each quantizer leaves of a model on a text, calibrated on another: perplexity and divergence, with intervals.

    python bench/quantizers.py --bits 3,4                              # SmolLM2-135M, as python/examples/smollm2.py has it
    python bench/quantizers.py MODEL --text evaluation.txt --calibration other.txt --device cuda
    python bench/quantizers.py --bits 2,3,4 --sequences 0           # what needs no calibration, on no more than the text

The layers of the blocks are replaced by what their packed weights stand for, so that every method is compared in the same
arithmetic, float32; the head and the embedding stay as they are. Beside perplexity stand the layers' output errors, on
the calibration's tokens and on the text's: where only the first is small, a method has learned tokens by heart.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers

import lutsmith
import lutsmith.calibration
from lutsmith.awq import scale_channels
from lutsmith.calibration import block_by_block
from lutsmith.evaluation import Estimate, Reference, evaluate
from lutsmith.gptq import quantize_with_feedback

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "python" / "examples"))

Settings = dict[str, object]
Statistics = dict[str, lutsmith.calibration.InputStatistics]
Change = Callable[[torch.nn.Linear, lutsmith.calibration.InputStatistics], lutsmith.PackedWeight]


def nearest(bits: int, group: int, weighed: bool = False, **settings: object) -> Change:
    def pack(layer, seen):
        importance = seen.mean_square if weighed else None
        return lutsmith.quantize(layer.weight, bits=bits, group=group, importance=importance, **settings)

    return pack


def free_methods(bits: int, group: int) -> dict[str, Change]:
    """By name: what packs a layer without having seen what comes to it."""
    settings: dict[str, Settings] = {
        "nf, absmax": {"method": "nf"},
        "nf, mse": {"method": "nf", "scales": "mse"},
        "lloyd, mse": {"method": "lloyd"},
        "kmeans": {"method": "kmeans"},
        "nf, mse, Hadamard": {"method": "nf", "scales": "mse", "hadamard": 1024},
        "hqq": {"method": "hqq"},
        "higgs, levels": {"method": "higgs", "table": "scalar"},
        "higgs, pairs": {"method": "higgs"},
        "higgs, levels, mse": {"method": "higgs", "table": "scalar", "scales": "mse"},
        "higgs, pairs, mse": {"method": "higgs", "scales": "mse"},
    }
    return {name: nearest(bits, group, **each) for name, each in settings.items()}


def calibrated_methods(bits: int, group: int, damping: float | None) -> dict[str, tuple[Change, Settings | None]]:
    """By name: what packs a layer, and the settings that its channels are scaled for, if they are."""

    def fed_back(**settings: object) -> Change:
        def pack(layer, seen):
            usual = {"bits": bits, "group": group, "damping": damping, "held_out": seen.held_out}
            return quantize_with_feedback(layer.weight, seen.hessian, **usual, **settings).packed

        return pack

    searched = {"method": "nf", "scales": "mse"}
    learned = {"method": "kmeans"}
    return {
        "nf, mse, importance": (nearest(bits, group, True, **searched), None),
        "kmeans, importance": (nearest(bits, group, True, **learned), None),
        "nf, absmax, scaled channels": (
            nearest(bits, group, method="nf"),
            {"bits": bits, "group": group, "method": "nf"},
        ),
        "nf, absmax, feedback": (fed_back(method="nf"), None),
        # The importance is the Hessian's diagonal, as nothing else is given.
        "nf, mse, importance, feedback": (fed_back(**searched), None),
        "kmeans, importance, feedback": (fed_back(**learned), None),
    }


def layers_of(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """Without the head."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }


@torch.no_grad()
def quantized(
    model, statistics: Statistics, calls: Sequence[torch.Tensor], change: Change, settings: Settings | None
):
    """A copy with quantized layers."""
    model = copy.deepcopy(model)
    if settings is not None:
        scale_channels(model, calls, **settings)
    for name, layer in layers_of(model).items():
        layer.weight.copy_(change(layer, statistics.get(name)).dequantize(torch.float32))
    return model


@torch.no_grad()
def mean_error(model, changed, statistics: Statistics) -> float:
    """Squared error of a layer's products over their squares, on the 16-bit model's inputs, mean over layers."""
    layers = layers_of(changed)
    errors = []
    for name, layer in layers_of(model).items():
        hessian = statistics[name].hessian
        difference = layers[name].weight - layer.weight
        lost, energy = (((each @ hessian) * each).sum(dtype=torch.float64) for each in (difference, layer.weight))
        errors.append(float(lost / energy))
    return sum(errors) / len(errors)


@torch.no_grad()
def quantized_in_turn(model, calls: Sequence[torch.Tensor], held_out: float, change: Change):
    """The same, each block calibrated behind those that are quantized."""
    model = copy.deepcopy(model)
    for _, layer, seen in block_by_block(model, calls, hessians=True, held_out=held_out):
        layer.weight.copy_(change(layer, seen).dequantize(torch.float32))
    return model


def shown(estimate: Estimate, digits: int) -> str:
    """With its interval."""
    value, low, high = (f"{each:.{digits}f}" for each in estimate)
    return f"{value} ({low}–{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="folder or name of a model of transformers")
    parser.add_argument("--bits", default="3")
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--text", type=Path, nargs="+", default=[ROOT / "python" / "examples" / "alice.txt"])
    parser.add_argument("--tokens", type=int, help="at most so many, of each text's beginning")
    parser.add_argument("--calibration", type=Path, nargs="+", default=sorted((ROOT / "docs").glob("*.md")))
    parser.add_argument("--length", type=int, default=384, help="tokens of a sequence")
    parser.add_argument("--window", type=int, help="tokens of the text read at once; fewer give surer intervals")
    parser.add_argument("--sequences", type=int, default=43, help="to calibrate on; 0: none")
    parser.add_argument("--held-out", type=float, default=0.0, help="part of each sequence that chooses the damping")
    parser.add_argument("--damping", type=float, help="of feedback, instead of the usual one")
    parser.add_argument("--in-turn", action="store_true", help="calibrate each block behind those that are quantized")
    parser.add_argument("--only", nargs="+", default=[""], help="methods whose name has one of these in it")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model is None:
            import smollm2

            smollm2.write_16_bit_model(Path(folder))
        source = arguments.model or folder
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).to(arguments.device)

    def sequences(text: str, most: int | None = None) -> torch.Tensor:
        numbers = torch.tensor(tokenizer(text)["input_ids"], device=arguments.device)
        whole = len(numbers) // arguments.length * arguments.length
        return numbers[:whole].reshape(-1, arguments.length)[:most]

    of_each = arguments.tokens and arguments.tokens // arguments.length
    texts = {path.name: sequences(path.read_text(), most=of_each) for path in arguments.text}
    window = arguments.window or arguments.length - 1  # with what follows it a window is a sequence
    references = {name: Reference.record(model, text, window) for name, text in texts.items()}
    for name, text in texts.items():
        original = evaluate(references[name], text, references[name], window).perplexity
        print(f"{name}: {text.numel()} tokens; 16 bits: {shown(original, 2)}")
    calls: Sequence[torch.Tensor] = ()
    statistics: Statistics = {}
    seen: list[Statistics] = []
    if arguments.sequences:
        calibration = sequences("\n".join(path.read_text() for path in arguments.calibration), arguments.sequences)
        calls = calibration.split(1)
        # Of the 16-bit model, once, for all methods.
        start = time.monotonic()
        named = list(layers_of(model))
        statistics = lutsmith.calibrate(model, calls, named, hessians=True, held_out=arguments.held_out)
        print(f"calibrated on {calibration.numel()} tokens: {time.monotonic() - start:.0f} s")
        of_text = lutsmith.calibrate(model, next(iter(texts.values())).split(1), named, hessians=True)
        seen = [statistics, of_text]
    losses = ["perplexity", "times 16 bits'", "divergence"]
    columns = ["bits", "method", "text", *losses, "error, calibration", "error, first text", "seconds"]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for bits in map(int, arguments.bits.split(",")):
        chosen = {name: (change, None) for name, change in free_methods(bits, arguments.group).items()}
        if arguments.sequences:
            chosen.update(calibrated_methods(bits, arguments.group, arguments.damping))
        for name, (change, settings) in chosen.items():
            if not any(part in name for part in arguments.only):
                continue
            start = time.monotonic()
            if arguments.in_turn and settings is None:
                changed = quantized_in_turn(model, calls, arguments.held_out, change)
            else:
                changed = quantized(model, statistics, calls, change, settings)
            seconds = time.monotonic() - start
            # Scaled channels have other inputs.
            errors = [f"{mean_error(model, changed, each):.4f}" for each in seen if settings is None] or ["", ""]
            for text_name, text in texts.items():
                found = evaluate(changed, text, references[text_name], window)
                losses = [shown(found.perplexity, 2), shown(found.ratio, 3), shown(found.divergence, 4)]
                cells = [bits, name, text_name, *losses, *errors, f"{seconds:.0f}"]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
