"""Bits and groups for each layer of a model, so that it takes a given size and loses as little as can be.

sensitivity = measure(model, batches)          # once: what each layer's error costs the model
plan = make_plan(sensitivity, size=4.25)       # bits a weight, with scales and tables
model = AutoModelForCausalLM.from_pretrained(path, quantization_config=plan.config())
"""

from __future__ import annotations

from lutsmith.planning.picture import draw
from lutsmith.planning.plan import Plan, make_plan
from lutsmith.planning.sensitivity import LayerSensitivity, Sensitivity, measure

__all__ = ["LayerSensitivity", "Plan", "Sensitivity", "draw", "make_plan", "measure"]
