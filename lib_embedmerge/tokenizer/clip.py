"""ClipTokenizer: text to CLIP's token ids and back. Other modules hold the vocabulary, the merging and text repair.

The ids are those of transformers' slow CLIPTokenizer with ftfy installed (models/clip/tokenization_clip.py, the same
code from 4.30 to 4.57), which A1111 uses for CLIP-L and Forge and reForge for all encoders.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from lib_embedmerge.errors import StorageError
from lib_embedmerge.tokenizer import bpe
from lib_embedmerge.tokenizer.vocabulary import END_OF_WORD, SPECIALS, load_vocabulary

_SPECIALS = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")
_END_OF_WORD_OFFSET = 256
"""The id of a byte that ends a word is higher by this number than the byte's own id."""

_WORD = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""Pattern of a word in CLIP, for any case. Copied from tokenization_clip.py."""

_PLAIN_TEXT = re.compile(r"[\t\n\x20-\x25\x27-\x7e]*")
"""Pattern of texts that no repair changes: plain ASCII without an ampersand, which may begin an entity of HTML."""

_PLAIN_WORD = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")
"""The same as _WORD for plain texts in lower case. Neither ftfy nor regex, which are slow to import, is needed then."""

_CACHED_WORDS = 4096
_MAX_CACHED_LENGTH = 48
"""Letters of the longest word that is cached, so that the cache stays below about 2 MB."""


class ClipTokenizer:
    """CLIP's tokenizer; implements core.ports.Tokenizer. The vocabulary is read on first use, not when it is made.

    Threads may share one tokenizer. StorageError on first use if the installation is incomplete or damaged.
    """

    vocabulary_size: int = 49408
    start_id: int = SPECIALS["<|startoftext|>"]
    end_id: int = SPECIALS["<|endoftext|>"]
    comma_id: int = 267

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without start and end; never raises, whatever the text.

        Equal to `CLIPTokenizer(...)(text, add_special_tokens=False).input_ids` for texts with characters of Unicode 13.
        For other characters that result depends on the installed Python and regex package; this one does not. Texts
        that are made to slow ftfy down give other ids too; see tokenizer/repair.py. 20,000 characters take
        well under a second.
        """
        ids: list[int] = []
        for piece in _SPECIALS.split(text):
            # Special tokens are found in the text as typed, and each piece of text between them is repaired separately.
            if piece in SPECIALS:
                ids.append(SPECIALS[piece])
            elif piece:
                for word in _split_words(piece):
                    ids.extend(_encode_word(word))
        return ids

    def token(self, token_id: int) -> str:
        """A token as the vocabulary spells it, `cat</w>`. IndexError outside the vocabulary."""
        return load_vocabulary().tokens[self._check_id(token_id)]

    def has_token(self, spelling: str) -> bool:
        """Whether the vocabulary has a token with this spelling, such as `cat</w>`."""
        return spelling in load_vocabulary().ids

    def ends_word(self, token_id: int) -> bool:
        """Whether a word ends after the token; never for a special token. IndexError outside the vocabulary."""
        return load_vocabulary().ends_word(self._check_id(token_id))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens: a space after every token that ends a word, U+FFFD for broken bytes.

        The result is that of the slow tokenizer's decode(ids, clean_up_tokenization_spaces=False), except that white
        space stays at both ends, and that the four ids of the characters `<`, `/`, `w`, `>` stay these characters.
        IndexError outside the vocabulary.
        """
        return b"".join(self._decode_token(token_id) for token_id in ids).decode("utf-8", errors="replace")

    def groups(self, ids: Sequence[int]) -> list[list[int]]:
        """The ids in order, in the smallest groups that decode to whole characters.

        Tokens with parts of one character are in one group. An id that cannot be part of a whole character is a group
        of its own, so invalid bytes do not swallow the ids after them. IndexError outside the vocabulary.
        """
        groups: list[list[int]] = []
        waiting: list[int] = []
        decoder = codecs.getincrementaldecoder("utf-8")()
        for token_id in ids:
            try:
                decoder.decode(self._decode_token(token_id))
            except UnicodeDecodeError:
                groups += [[broken] for broken in waiting]
                waiting = []
                decoder.reset()
                try:
                    decoder.decode(self._decode_token(token_id))
                except UnicodeDecodeError:
                    decoder.reset()
                    groups.append([token_id])
                    continue
            waiting.append(token_id)
            if not decoder.getstate()[0]:
                groups.append(waiting)
                waiting = []
        return groups + [[broken] for broken in waiting]

    def spell(self, ids: Sequence[int]) -> str | None:
        """A text whose encode() gives exactly these ids, or None if their decoded text does not.

        It does not if the ids end inside a word, if CLIP never splits a text like this, or if the text would be
        repaired. IndexError outside the vocabulary.
        """
        text = self.decode(ids).strip(" ")
        return text if self.encode(text) == list(ids) else None

    def _decode_token(self, token_id: int) -> bytes:
        """The bytes of a token, with a space if it ends a word."""
        vocabulary = load_vocabulary()
        text = vocabulary.bytes_of(self._check_id(token_id))
        return text + b" " if vocabulary.ends_word(token_id) else text

    def _check_id(self, token_id: int) -> int:
        """The id itself. IndexError if it is outside the vocabulary."""
        if not 0 <= token_id < self.vocabulary_size:
            raise IndexError(f"token id {token_id} is not within 0 to {self.vocabulary_size - 1}")
        return token_id


@lru_cache(maxsize=1)
def clip_tokenizer() -> ClipTokenizer:
    """The tokenizer that the whole program shares."""
    return ClipTokenizer()


@lru_cache(maxsize=1)
def _load_patterns() -> tuple[Any, Any]:
    """(pattern of white space, pattern of a word), both of the regex package, whose \\s differs from that of re.

    StorageError if that package is missing.
    """
    try:
        regex = import_module("regex")
    except ImportError as error:
        message = f"The Python package {error.name} is missing. EmbedMerge needs it to read text."
        raise StorageError(message, hint=f"Install it: pip install {error.name}") from error
    return regex.compile(r"\s+"), regex.compile(_WORD, regex.IGNORECASE)


def _split_words(text: str) -> Iterable[str]:
    """The words of a text without special tokens: repaired, in lower case, without white space."""
    if _PLAIN_TEXT.fullmatch(text):
        return _PLAIN_WORD.findall(text.lower())
    # Imported late, because most texts are plain.
    from lib_embedmerge.tokenizer.characters import ProtectedText
    from lib_embedmerge.tokenizer.repair import repair

    white_space, word = _load_patterns()
    protected = ProtectedText(repair(text))
    # str.strip and the pattern differ on \x1c to \x1f; both are applied, as in the original.
    cleaned = white_space.sub(" ", protected.text).strip().lower()
    return (protected.restore(match.group()) for match in word.finditer(cleaned))


def _encode_word(word: str) -> Sequence[int]:
    """The token ids of one word. Those of short words are cached."""
    if len(word) <= _MAX_CACHED_LENGTH:
        return _encode_word_cached(word)
    return _encode_word_uncached(word)


def _encode_word_uncached(word: str) -> Sequence[int]:
    # Repair and lower case can also give a special token: `&lt;|endoftext|&gt;`, `<|ENDOFTEXT|>`.
    if word in SPECIALS:
        return (SPECIALS[word],)
    vocabulary = load_vocabulary()
    # Most words are a token, which merging their bytes would give too, as the tests try for each.
    if word.isascii() and (token_id := vocabulary.ids.get(word + END_OF_WORD)) is not None:
        return (token_id,)
    symbols = [vocabulary.byte_ids[byte] for byte in word.encode("utf-8", errors="replace")]
    symbols[-1] += _END_OF_WORD_OFFSET
    return tuple(bpe.merge(symbols, vocabulary.merges))


_encode_word_cached: Callable[[str], Sequence[int]] = lru_cache(maxsize=_CACHED_WORDS)(_encode_word_uncached)
