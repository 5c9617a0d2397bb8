"""CLIP's vocabulary: 49,408 tokens, their bytes, and the merges of which they are made.

merges.txt.gz holds the 48,894 merges that CLIP uses: lines 1 to 48,894 (after the title line) of
bpe_simple_vocab_16e6.txt.gz, sha256 924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a, as carried by
PyPI's open-clip-torch 2.20.0; published by OpenAI with CLIP (https://github.com/openai/CLIP) under the MIT licence.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count, repeat
from operator import add, lshift, or_
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.tokenizer.bpe import PAIR_SHIFT

MERGES_FILE = Path(__file__).with_name("merges.txt.gz")
_GZIP = 16 + zlib.MAX_WBITS
"""What zlib calls the format of gzip."""
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
    pairs: the text of merges.txt.gz: the spellings of both parts of each merge, in order.
    byte_ids: byte -> id of its token; if a word ends after the byte, its id is higher by 256.
    byte_of: character of a spelling -> byte.
    """

    tokens: tuple[str, ...]
    ids: dict[str, int]
    pairs: str
    byte_ids: tuple[int, ...]
    byte_of: dict[str, int]

    @cached_property
    def merges(self) -> dict[int, int]:
        """left id << bpe.PAIR_SHIFT | right id -> id of both together; 48,894 entries.

        Only words that are no token need it, and to make it takes longer than to make all else.
        """
        find_id = self.ids.__getitem__
        lefts, rights = _split_pairs(self.pairs)
        # A loop in Python takes 1.5 times as long.
        keys = map(or_, map(lshift, map(find_id, lefts), repeat(PAIR_SHIFT)), map(find_id, rights))
        return dict(zip(keys, count(2 * _BYTES)))

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
    pairs = _read_merges()
    tokens = (*single, *map(add, *_split_pairs(pairs)), *SPECIALS)
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    byte_ids = {byte: token_id for token_id, byte in enumerate(spelling)}
    return Vocabulary(
        tokens=tokens,
        ids=ids,
        pairs=pairs,
        byte_ids=tuple(byte_ids[byte] for byte in range(_BYTES)),
        byte_of={character: byte for byte, character in spelling.items()},
    )


def _split_pairs(pairs: str) -> tuple[list[str], list[str]]:
    """The first parts of the merges in `Vocabulary.pairs`, and the second parts."""
    parts = pairs.split()
    return parts[0::2], parts[1::2]


def _read_merges() -> str:
    """The text of merges.txt.gz. StorageError if the file is missing or damaged."""
    hint = "Install EmbedMerge again."
    try:
        raw = zlib.decompress(MERGES_FILE.read_bytes(), wbits=_GZIP)
    except OSError as error:
        raise StorageError(f"{MERGES_FILE.name} of EmbedMerge cannot be read: {error.strerror}.", hint=hint) from error
    except zlib.error as error:
        raise StorageError(f"{MERGES_FILE.name} of EmbedMerge is damaged.", hint=hint) from error
    if hashlib.sha256(raw).hexdigest() != _MERGES_SHA256:
        raise StorageError(f"{MERGES_FILE.name} of EmbedMerge is damaged.", hint=hint)
    return raw.decode("utf-8")
