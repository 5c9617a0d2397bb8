"""CLIP's vocabulary: 49,408 tokens, their bytes, and the merges of which they are made.

merges.txt.xz holds the 48,894 merges that CLIP uses: lines 1 to 48,894 (after the title line) of
bpe_simple_vocab_16e6.txt.gz, sha256 924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a, as carried by
PyPI's open-clip-torch 2.20.0; published by OpenAI with CLIP (https://github.com/openai/CLIP) under the MIT licence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from operator import add
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.tokenizer.bpe import PAIR_SHIFT

MERGES_FILE = Path(__file__).with_name("merges.txt.xz")
_MERGES_SHA256 = "d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02"

END_OF_WORD = "</w>"
"""The end of a token's spelling if a word ends after the token."""

SPECIALS = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
_BYTES = 256


def _make_byte_spelling() -> dict[int, str]:
    """Byte -> the visible character for it in the spellings of tokens, in the order of the tokens 0 to 255.

    Source: `bytes_to_unicode` of OpenAI's CLIP, simple_tokenizer.py.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(_BYTES) if byte not in set(visible)]
    return {byte: chr(byte) for byte in visible} | {byte: chr(_BYTES + n) for n, byte in enumerate(hidden)}


@lru_cache(maxsize=1)
def _make_spelling_to_byte() -> dict[str, int]:
    return {character: byte for byte, character in _make_byte_spelling().items()}


def make_readable(spelling: str) -> str:
    """The text of a token for people, without the mark for the end of a word.

    spelling: as the vocabulary spells it, where `âŃĲ</w>` is a star. Bytes that are no whole character become `\\xe2`.
    """
    text = spelling.removesuffix(END_OF_WORD)
    byte_of = _make_spelling_to_byte()
    if not all(character in byte_of for character in text):
        return text
    return bytes(byte_of[character] for character in text).decode("utf-8", errors="backslashreplace")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens and merges of CLIP.

    tokens: token id -> spelling, `cat</w>`; 49,408 entries, all different.  ids: spelling -> token id.
    merges: left id << bpe.PAIR_SHIFT | right id -> id of both together; 48,894 entries.
    byte_ids: byte -> id of its token; if a word ends after the byte, its id is higher by 256.
    byte_of: character of a spelling -> byte.
    """

    tokens: tuple[str, ...]
    ids: dict[str, int]
    merges: dict[int, int]
    byte_ids: tuple[int, ...]
    byte_of: dict[str, int]

    def ends_word(self, token_id: int) -> bool:
        """Whether a word ends after the token; never for a special token."""
        return self.tokens[token_id].endswith(END_OF_WORD)

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes of the token's text, without the mark for the end of a word."""
        return bytes(map(self.byte_of.__getitem__, self.tokens[token_id].removesuffix(END_OF_WORD)))


@lru_cache(maxsize=1)
def load_vocabulary() -> Vocabulary:
    """The vocabulary, which is read once. StorageError if the installation is damaged.

    There is no lock: two threads that call it first at the same time both read it, and get equal values.
    """
    spelling = _make_byte_spelling()
    single = [*spelling.values(), *(character + END_OF_WORD for character in spelling.values())]
    halves = _read_merges().split()
    lefts, rights = halves[0::2], halves[1::2]
    tokens = (*single, *map(add, lefts, rights), *SPECIALS)
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    byte_ids = {byte: token_id for token_id, byte in enumerate(spelling)}
    return Vocabulary(
        tokens=tokens,
        ids=ids,
        merges={
            ids[left] << PAIR_SHIFT | ids[right]: merged
            for merged, (left, right) in enumerate(zip(lefts, rights, strict=True), len(single))
        },
        byte_ids=tuple(byte_ids[byte] for byte in range(_BYTES)),
        byte_of={character: byte for byte, character in spelling.items()},
    )


def _read_merges() -> str:
    """The text of merges.txt.xz. StorageError if the file is missing or damaged, or Python lacks the module lzma."""
    hint = "Install EmbedMerge again."
    try:
        import lzma

        raw = lzma.decompress(MERGES_FILE.read_bytes())
    except ImportError as error:
        message = "This Python was built without the module lzma, which EmbedMerge needs."
        raise StorageError(message, hint="Install a Python that has the module lzma.") from error
    except OSError as error:
        raise StorageError(f"{MERGES_FILE.name} of EmbedMerge cannot be read: {error.strerror}.", hint=hint) from error
    except (lzma.LZMAError, EOFError) as error:
        raise StorageError(f"{MERGES_FILE.name} of EmbedMerge is damaged.", hint=hint) from error
    if hashlib.sha256(raw).hexdigest() != _MERGES_SHA256:
        raise StorageError(f"{MERGES_FILE.name} of EmbedMerge is damaged.", hint=hint)
    return raw.decode("utf-8")
