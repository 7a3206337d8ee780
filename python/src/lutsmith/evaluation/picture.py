"""Loss against bits, as a picture: an SVG file that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from lutsmith.evaluation.bootstrap import COVERAGE
from lutsmith.evaluation.comparison import Comparison

__all__ = ["draw"]

_WIDTH, _HEIGHT = 720, 380  # of the picture of one text
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 52, 50
# The colours of `lutsmith report`, Okabe and Ito's; marks differ in more than colour.
_FRONT, _OTHER, _INK, _QUIET, _GRID = "#0072b2", "#767d86", "#1b1f24", "#57606a", "#e4e8ec"
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'


def draw(comparisons: Sequence[Comparison]) -> str:
    """One picture below the other for each text. Filled and joined: models on the front; lines up and down: intervals.

    Loss is the divergence from the reference, on a logarithmic scale, without models that have none (the reference
    itself); or the perplexity where there is no reference.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT * len(comparisons)}" '
        f"font-family='{_FONT}' font-size=\"12\" fill=\"{_INK}\">",
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for index, comparison in enumerate(comparisons):
        parts += [f'<g transform="translate(0,{index * _HEIGHT})">', *_panel(comparison), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(comparison: Comparison) -> list[str]:
    shown = [entry for entry in comparison.entries if 0 < entry.loss.value < math.inf]
    compared = comparison.entries[0].evaluation.has_reference
    title = "divergence from the reference, nats a token" if compared else "perplexity"
    parts = [f'<text x="{_LEFT}" y="20" font-size="14">{escape(comparison.text)}: {title}</text>']
    note = f"filled: on the front of bits and loss; lines up and down: {100 * COVERAGE:.0f} % intervals"
    parts.append(f'<text x="{_LEFT}" y="36" fill="{_QUIET}">{note}</text>')
    if not shown:
        return [*parts, f'<text x="{_LEFT}" y="{_HEIGHT / 2}">no model differs from the reference</text>']
    x = _Axis([entry.bits_per_weight for entry in shown], _LEFT, _WIDTH - _RIGHT, logarithmic=False)
    reach = [value for entry in shown for value in entry.loss if 0 < value < math.inf]
    y = _Axis(reach, _HEIGHT - _BOTTOM, _TOP, logarithmic=True)
    for value in y.ticks():
        at = y.place(value)
        parts.append(f'<path d="M{_LEFT},{at:.1f}H{_WIDTH - _RIGHT}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in x.ticks():
        at = x.place(value)
        parts.append(f'<path d="M{at:.1f},{_TOP}V{_HEIGHT - _BOTTOM}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle" fill="{_QUIET}">bits a weight of the linear '
        "layers</text>"
    )
    names = comparison.front()
    front = sorted((entry for entry in shown if entry.name in names), key=lambda entry: entry.bits_per_weight)
    line = " ".join(f"{x.place(entry.bits_per_weight):.1f},{y.place(entry.loss.value):.1f}" for entry in front)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_FRONT}" stroke-dasharray="4 3"/>')
    for entry in shown:
        on_front = entry.name in names
        color = _FRONT if on_front else _OTHER
        across, up = x.place(entry.bits_per_weight), y.place(entry.loss.value)
        if entry.loss.low > 0 and entry.loss.high < math.inf:
            low, high = y.place(entry.loss.low), y.place(entry.loss.high)
            parts.append(f'<path d="M{across:.1f},{low:.1f}V{high:.1f}" stroke="{color}"/>')
        fill = color if on_front else "#fff"
        parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="{fill}" stroke="{color}"/>')
        parts.append(f'<text x="{across + 8:.1f}" y="{up + 4:.1f}">{escape(entry.name)}</text>')
    return parts


class _Axis:
    """From values to places on the picture, with some room beside the outermost values."""

    def __init__(self, values: Sequence[float], start: float, end: float, logarithmic: bool) -> None:
        self._logarithmic = logarithmic
        self._start, self._end = start, end
        scaled = [self._scaled(value) for value in values]
        room = 0.06 * (max(scaled) - min(scaled)) or 0.1
        self._low, self._high = min(scaled) - room, max(scaled) + room

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._logarithmic else value

    def place(self, value: float) -> float:
        part = (self._scaled(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values, between three and about ten."""
        if self._logarithmic and self._high - self._low > 0.8:
            decades = range(math.floor(self._low), math.ceil(self._high) + 1)
            steps = (1, 2, 5) if self._high - self._low < 3 else (1,)
            values = [step * 10.0**decade for decade in decades for step in steps]
        else:
            low, high = (10**end if self._logarithmic else end for end in (self._low, self._high))
            about = (high - low) / 5
            decade = 10.0 ** math.floor(math.log10(about))
            step = next(size * decade for size in (1, 2, 5, 10) if size * decade >= about)
            values = [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
        return [round(value, 12) for value in values if self._low <= self._scaled(value) <= self._high]
