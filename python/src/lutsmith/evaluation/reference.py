"""What the 16-bit model says of each token, kept so that it need not be in memory beside the quantized one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.evaluation.running import Runner
from lutsmith.evaluation.windows import Windows

__all__ = ["Reference"]

_ABOUT = "reference.json"
_VERSION = 1


class Reference:
    """A model's logits of every scored token, in the type that the model gives them, so nothing is rounded.

    A token takes as many values as the vocabulary: 0.3 MB for 128,000 of 16 bits. In a folder there is one file for
    each window, of which one is in memory at a time.
    """

    def __init__(self, about: dict[str, Any], kept: Path | list[torch.Tensor]) -> None:
        """By `record` and `open`."""
        self._about = about
        self._kept = kept

    @classmethod
    def record(
        cls,
        model: torch.nn.Module,
        tokens: torch.Tensor | Sequence[torch.Tensor],
        window: int = 512,
        stride: int | None = None,
        batch: int = 1,
        folder: str | os.PathLike[str] | None = None,
    ) -> Reference:
        """Runs a model over the windows that `evaluate` is going to cut of the same tokens.

        Args:
            tokens, window, stride, batch: as for `evaluate`.
            folder: where logits are kept; None: in memory.

        Raises:
            Error: as `evaluate`; where the folder has another reference, or too little space.
        """
        windows = Windows(tokens, window, stride)
        place = None if folder is None else Path(folder)
        if place is not None:
            if (place / _ABOUT).exists():
                raise Error(f"{place}: holds a reference already; Reference.open reads it, or name another folder")
            place.mkdir(parents=True, exist_ok=True)
        kept: list[torch.Tensor] = []
        for index, logits in enumerate(Runner(model, "reference model").logits(windows, batch)):
            # A copy, for on the CPU these rows are a part of all that the model gave, which would be kept with them.
            rows = logits.cpu().clone()
            if place is None:
                kept.append(rows)
                continue
            if index == 0:
                _check_space(place, windows.scored * logits.shape[-1] * logits.element_size())
            torch.save(rows, _file(place, index))
        about = {"version": _VERSION, **windows.describe()}
        if place is None:
            return cls(about, kept)
        (place / _ABOUT).write_text(json.dumps(about, indent=1) + "\n")  # last: what was interrupted has none
        return cls(about, place)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Reference:
        """What `record` kept in a folder.

        Raises:
            Error: where the folder has no whole reference.
        """
        place = Path(folder)
        try:
            about = json.loads((place / _ABOUT).read_text())
        except (OSError, ValueError) as wrong:
            raise Error(f"{place}: holds no whole reference ({wrong}); make one with Reference.record") from wrong
        if about.get("version") != _VERSION:
            raise Error(f"{place}: a reference of version {about.get('version')}; allowed: {_VERSION}; record it again")
        return cls(about, place)

    def logits(self, windows: Windows, batch: int) -> Iterator[torch.Tensor]:
        """Of each window, [scored, vocabulary].

        Raises:
            Error: where it was recorded of other windows, or a file is gone.
        """
        wanted = windows.describe()
        different = [name for name, value in wanted.items() if self._about[name] != value]
        if different:
            name = different[0]
            raise Error(
                f"reference: recorded of other windows ({name} {self._about[name]}, here {wanted[name]}) is not "
                "allowed; allowed: the same tokens, window and stride; record it again with these"
            )
        for index in range(len(windows.all)):
            if isinstance(self._kept, list):
                yield self._kept[index]
                continue
            file = _file(self._kept, index)
            try:
                yield torch.load(file, weights_only=True)
            except OSError as failed:
                raise Error(f"{file}: cannot be read: {failed}; record the reference again") from failed


def _file(folder: Path, index: int) -> Path:
    return folder / f"window-{index:06}.pt"


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Error(
            f"{folder}: {needed / 1e9:.1f} GB of logits do not fit into {free / 1e9:.1f} GB of free space; name a "
            "folder elsewhere, or evaluate fewer tokens"
        )
