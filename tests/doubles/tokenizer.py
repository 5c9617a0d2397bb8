"""The tokenizer of the web UIs: transformers' slow CLIPTokenizer, over the vocabulary that EmbedMerge carries."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from lib_embedmerge.tokenizer import vocabulary


@cache
def slow_tokenizer(folder: Path, pad_token: str = "<|endoftext|>") -> Any:
    """It is written to that folder; made once.

    pad_token: `!` for CLIP-G as Forge and diffusers have it, whose tokenizer then reads every `!` as that token.
    """
    known = vocabulary.load_vocabulary()
    ids = {token: token_id for token_id, token in enumerate(known.tokens)}
    merges = [f"{known.tokens[pair >> 16]} {known.tokens[pair & 0xFFFF]}" for pair in known.merges]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    with warnings.catch_warnings():
        # transformers announces changes that do not matter here, in other versions other ones.
        warnings.simplefilter("ignore")
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(str(folder), clean_up_tokenization_spaces=False, pad_token=pad_token)
