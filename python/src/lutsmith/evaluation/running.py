"""A model, run over windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.evaluation.windows import Windows

__all__ = ["Runner"]


class Runner:
    """Calls a model with token numbers [batch, window], without gradients, in evaluation mode; it is left as it was.

    What it gives is logits [batch, window, vocabulary], or has them as `logits`, as models of transformers do.
    """

    def __init__(self, model: torch.nn.Module, name: str = "model") -> None:
        self._model = model
        self._name = name

    def check(self, windows: Windows) -> None:
        """Before anything is run, since an embedding asked for what it has not is a fault of the GPU."""
        embedding = getattr(self._model, "get_input_embeddings", lambda: None)()
        if isinstance(embedding, torch.nn.Embedding):
            windows.check_vocabulary(embedding.num_embeddings, self._name)
        positions = getattr(getattr(self._model, "config", None), "max_position_embeddings", None)
        if positions is not None and windows.window > positions:
            raise Error(
                f"window: {windows.window} is not allowed; allowed: at most {positions}, the positions that the "
                f"{self._name} knows"
            )

    def logits(self, windows: Windows, batch: int) -> Iterator[torch.Tensor]:
        """Of each window those that say something of a scored token: [scored, vocabulary]."""
        if not isinstance(batch, int) or batch < 1:
            raise Error(f"batch: {batch!r} is not allowed; allowed: windows to be run at once, at least 1")
        self.check(windows)
        device = next(self._model.parameters()).device
        for first in range(0, len(windows.all), batch):
            together = windows.all[first : first + batch]
            result = self._run(torch.stack([each.inputs for each in together]).to(device))
            if result.dim() != 3 or result.shape[:2] != (len(together), windows.window):
                raise Error(
                    f"{self._name}: gave logits {list(result.shape)}; allowed: [{len(together)}, {windows.window}, "
                    "vocabulary], of a model that says of every token what follows"
                )
            for logits, each in zip(result, together):
                yield logits[-len(each.targets) :]

    def _run(self, inputs: torch.Tensor) -> torch.Tensor:
        # Here and not around the loop: between its turns a generator must not leave the mode changed.
        training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad():
                result: Any = self._model(inputs)
        finally:
            self._model.train(training)
        return getattr(result, "logits", result)
