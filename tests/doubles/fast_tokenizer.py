"""The tokenizer of pipelines of diffusers: transformers' fast one, over the vocabulary that EmbedMerge carries."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from doubles.tokenizer import slow_tokenizer


@cache
def _read(folder: Path, pad_token: str) -> Any:
    slow_tokenizer(folder, pad_token)  # which writes the files
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as slow_tokenizer does
        from transformers import CLIPTokenizerFast

        return CLIPTokenizerFast.from_pretrained(str(folder), clean_up_tokenization_spaces=False, pad_token=pad_token)


def fast_tokenizer(folder: Path, pad_token: str = "<|endoftext|>") -> Any:
    """A tokenizer of one's own, to which tokens may be added."""
    return copy.deepcopy(_read(folder, pad_token))
