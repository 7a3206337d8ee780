"""How much worse a quantized model is than the 16-bit one, on given texts.

    from lutsmith.evaluation import Reference, evaluate, model_size

    reference = Reference.record(original, tokens)             # its logits; the model itself can go then
    found = evaluate(quantized, tokens, reference)
    print(found.perplexity, found.ratio, found.divergence, model_size(quantized).bits_per_weight)
"""

from __future__ import annotations

from lutsmith.evaluation.bootstrap import Estimate
from lutsmith.evaluation.comparison import Comparison, Entry
from lutsmith.evaluation.picture import draw
from lutsmith.evaluation.reference import Reference
from lutsmith.evaluation.result import Evaluation
from lutsmith.evaluation.scoring import evaluate
from lutsmith.evaluation.size import ModelSize, model_size, packed_bytes
from lutsmith.evaluation.texts import read_text

__all__ = [
    "Comparison",
    "Entry",
    "Estimate",
    "Evaluation",
    "ModelSize",
    "Reference",
    "draw",
    "evaluate",
    "model_size",
    "packed_bytes",
    "read_text",
]
