"""A plan as a picture: what was chosen, and what any other size would lose. An SVG file that loads nothing."""

from __future__ import annotations

import math
from html import escape

from lutsmith.planning.plan import Plan, grid, make_plan

__all__ = ["draw"]

_LEFT, _TOP, _ROW, _CELL = 60, 78, 18, 74
_CURVE_WIDTH, _CURVE_HEIGHT = 420, 300
# The colours of `lutsmith report`, Okabe and Ito's; bits are written in the cells as well.
_INK, _QUIET, _GRID, _CHOSEN = "#1b1f24", "#57606a", "#e4e8ec", "#0072b2"
_OF_BITS = {1: "#f7fbff", 2: "#d6e6f4", 3: "#9dc6e2", 4: "#4f9bcb"}
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'
_POINTS = 24  # of the curve


def draw(plan: Plan, together: bool = True) -> str:
    """Layers by block and kind with bits and group, each bar the layer's part of the sensitivity; beside them predicted
    loss against size, of plans and of all layers alike. together: as the plan was made."""
    rows, columns = grid(plan.modules)
    width = _LEFT + _CELL * len(columns) + 60 + _CURVE_WIDTH
    height = max(_TOP + _ROW * len(rows) + 20, _TOP + _CURVE_HEIGHT + 40)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family=\'{_FONT}\' font-size="11" fill="{_INK}">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{plan.bits_per_weight:.3f} bits a weight, predicted loss '
        f"{plan.loss:.4f} nats a token</text>",
        f'<text x="{_LEFT}" y="38" fill="{_QUIET}">bits/group of each layer; bars: what it would cost in the '
        "option that loses most</text>",
    ]
    parts += _layers(plan, rows, columns)
    parts += _curve(plan, together, _LEFT + _CELL * len(columns) + 60)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _layers(plan: Plan, rows: dict[str, dict[str, str]], columns: list[str]) -> list[str]:
    # In the option that loses most, where layers differ most.
    worst = max(plan.uniform(), key=lambda each: each.loss)
    costs = {name: each.loss(worst.bits, worst.group) for name, each in plan.sensitivity.layers.items()}
    most = max(costs.values()) or 1.0
    parts = []
    for index, column in enumerate(columns):
        short = escape(column.rsplit(".", 1)[-1])
        parts.append(f'<text x="{_LEFT + _CELL * (index + 0.5)}" y="{_TOP - 8}" text-anchor="middle">{short}</text>')
    for index, (row, names) in enumerate(rows.items()):
        y = _TOP + _ROW * index
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end" fill="{_QUIET}">{escape(row)}</text>')
        for place, column in enumerate(columns):
            if column not in names:
                continue
            name = names[column]
            bits, group = plan.modules[name]
            x = _LEFT + _CELL * place
            bar = (_CELL - 4) * costs[name] / most
            parts.append(
                f"<g><title>{escape(name)}: {bits} bits, group {group}, {plan.sensitivity.layers[name].loss(bits, group):.4g} nats</title>"
                f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_ROW - 2}" fill="{_OF_BITS.get(bits, "#fff")}"/>'
                f'<rect x="{x + 1}" y="{y + _ROW - 5}" width="{bar:.1f}" height="2" fill="{_INK}"/>'
                f'<text x="{x + _CELL / 2 - 1}" y="{y + 11}" text-anchor="middle">{bits}/{group}</text></g>'
            )
    return parts


def _curve(plan: Plan, together: bool, left: float) -> list[str]:
    uniform = plan.uniform()
    small, large = (end(each.bits_per_weight for each in uniform) for end in (min, max))
    sizes = [small + (large - small) * step / _POINTS for step in range(_POINTS + 1)]
    plans = [(size, make_plan(plan.sensitivity, size + 1e-6, together).loss) for size in sizes]
    losses = [loss for _, loss in [*plans, *((0, each.loss) for each in uniform), (0, plan.loss)] if loss > 0]
    if not losses or large == small:
        return []
    low, high = math.log10(min(losses)) - 0.05, math.log10(max(losses)) + 0.05

    def place(size: float, loss: float) -> tuple[float, float]:
        up = (math.log10(max(loss, min(losses))) - low) / (high - low)
        return left + (size - small) / (large - small) * (_CURVE_WIDTH - 90), _TOP + _CURVE_HEIGHT * (1 - up)

    parts = [
        f'<text x="{left}" y="38" fill="{_QUIET}">predicted loss (nats a token) against bits a weight; line: plans, '
        "circles: all layers alike</text>"
    ]
    for decade in range(math.floor(low), math.ceil(high) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**decade
            if low <= math.log10(value) <= high:
                _, y = place(small, value)
                parts.append(f'<path d="M{left},{y:.1f}h{_CURVE_WIDTH - 90}" stroke="{_GRID}"/>')
                parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for half in range(math.ceil(2 * small), math.floor(2 * large) + 1):
        x, _ = place(half / 2, max(losses))
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _CURVE_HEIGHT + 16}" text-anchor="middle">{half / 2:g}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*each) for each in plans))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_CHOSEN}"/>')
    for each in uniform:
        x, y = place(each.bits_per_weight, each.loss)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#fff" stroke="{_QUIET}"/>')
        parts.append(f'<text x="{x + 6:.1f}" y="{y - 4:.1f}" fill="{_QUIET}">{each.bits}/{each.group}</text>')
    x, y = place(plan.bits_per_weight, plan.loss)
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{_CHOSEN}"/>')
    return parts
