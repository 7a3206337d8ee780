"""A file that a run writes as it goes, and another one goes on from."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["ProgressFile"]

_VERSION = 1


class ProgressFile:
    """Whole or absent: it is written beside itself and then renamed."""

    def __init__(self, path: Path, identity: str) -> None:
        """identity: of what is run, with all that its result depends on."""
        self._path = path
        self._identity = identity

    def read(self) -> dict[str, Any] | None:
        """What `write` was given last; None where there is no file. Raises Error for one of another run."""
        try:
            found = torch.load(self._path, weights_only=True, map_location="cpu")
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as failed:
            raise Error(f"{self._path}: cannot be read: {failed}; remove it to begin anew") from failed
        if not isinstance(found, dict) or found.get("version") != _VERSION or found.get("identity") != self._identity:
            raise Error(
                f"{self._path}: is of a run with another model, other tokens or settings; name another file, or remove "
                "it"
            )
        return found["state"]

    def write(self, state: dict[str, Any]) -> None:
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        torch.save({"version": _VERSION, "identity": self._identity, "state": state}, part)
        os.replace(part, self._path)
