"""Texts that every machine with Python and this tree has: one kind to calibrate on and to be measured on, two others.

The manual of Python (its module pydoc_data.topics) is cut in two by topics; paragraphs that both halves have are left
out of the half that is measured. The other kinds are a novel (alice.txt) and source code (Python's own library).
"""

from __future__ import annotations

import argparse as _source_of_code
import pydoc_data.topics
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Of the texts below, the kind that is calibrated on.
IN_DOMAIN = "manual"


def calibration_text() -> str:
    return "\n\n".join(_topics()[::2])


def evaluation_texts() -> dict[str, str]:
    """By name; nothing of them is in the text to calibrate on."""
    seen = set(_paragraphs(calibration_text()))
    manual = [each for each in _paragraphs("\n\n".join(_topics()[1::2])) if each not in seen]
    return {
        IN_DOMAIN: "\n\n".join(manual),
        "novel": (ROOT / "python" / "examples" / "alice.txt").read_text(),
        "code": Path(_source_of_code.__file__).read_text(),
    }


def _topics() -> list[str]:
    return [text for _, text in sorted(pydoc_data.topics.topics.items())]


def _paragraphs(text: str) -> list[str]:
    return [each.strip() for each in text.split("\n\n") if each.strip()]
