"""What verbs of the command line read: texts, and models of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lutsmith._core import Error

__all__ = ["load_model", "texts_of"]


def texts_of(files: Sequence[Path], tokenizer_source: str, most: int | None) -> Iterator[tuple[str, Any]]:
    """Name and token numbers of each file, `most` at most; of texts by a tokenizer of transformers.

    Raises Error where the tokenizer or a file cannot be read.
    """
    from lutsmith.evaluation.texts import TOKEN_FILES, read_text

    tokenizer = None
    if any(path.suffix not in TOKEN_FILES for path in files):
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(tokenizer_source)
        except (OSError, ValueError) as failed:
            raise Error(
                f"{tokenizer_source}: has no tokenizer that can be read: {failed}; name the folder of one by "
                "--tokenizer"
            ) from failed
    if most is not None and most < 1:
        raise Error(f"--tokens: {most} is not allowed; allowed: at least 1")
    for path in files:
        yield path.name, read_text(path, tokenizer)[..., :most]


def load_model(source: str, device: str, **settings: Any) -> Any:
    """A causal language model, packed ones too. Raises Error where it cannot be loaded."""
    import transformers

    import lutsmith.transformers  # noqa: F401  registers the quantizer

    transformers.utils.logging.disable_progress_bar()
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(source, **settings).to(device)
    except (OSError, ValueError) as failed:
        raise Error(
            f"{source}: cannot be loaded: {failed}; allowed: a folder that save_pretrained or `lutsmith import` wrote, "
            "or a name that transformers knows"
        ) from failed
