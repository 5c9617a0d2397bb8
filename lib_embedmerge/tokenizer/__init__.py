"""CLIP's tokenizer, without a download: text to the token ids that every CLIP text encoder was trained on, and back.

clip.py       ClipTokenizer, which the rest of the program uses
repair.py     ftfy's repair of damaged text, in bounded time
characters.py the characters of Unicode 13, which every Python knows alike
vocabulary.py the 49,408 tokens and the merges that make them, read from merges.txt.gz
bpe.py        byte-pair merging of one word
"""

from __future__ import annotations

from lib_embedmerge.tokenizer.clip import ClipTokenizer, clip_tokenizer

__all__ = ["ClipTokenizer", "clip_tokenizer"]
