"""Scales of groups, learned by gradient descent on what the whole model loses.

Guo et al., FLUTE: Fast Matrix Multiplications for Lookup Table-Quantized LLMs, 2024, section on learned NormalFloat:
codes are the nearest entries for the scales as they are, and scales follow the gradient of the model's loss on tokens.

    learned = lutsmith.learn_scales(model, batches, bits=3, group=64, held_out=others)
    learned.put_into(model).save_pretrained("packed")
"""

from __future__ import annotations

from lutsmith.learning.scales import Check, LearnedScales, Step, learn_scales

__all__ = ["Check", "LearnedScales", "Step", "learn_scales"]
