"""ClipTokenizer: text to CLIP's token ids and back. The vocabulary, merging and text repair have modules of their own.

The ids are those of transformers' slow CLIPTokenizer with ftfy installed (models/clip/tokenization_clip.py, the same
code from 4.30 to 4.57), which A1111 uses for CLIP-L and Forge and reForge for all encoders.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from lib_embedmerge.errors import StorageError
from lib_embedmerge.tokenizer import bpe
from lib_embedmerge.tokenizer.characters import Apart
from lib_embedmerge.tokenizer.repair import repair
from lib_embedmerge.tokenizer.vocabulary import SPECIALS, load_vocabulary

_SPECIALS = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")
_FINAL = 256
"""The token of a byte that ends a word comes this many ids after the byte's own."""

_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""What CLIP takes for a word, regardless of case: from tokenization_clip.py, as it is there."""

_CACHED_WORDS = 4096
_CACHED_LENGTH = 48
"""Letters of the longest word that is kept, so that the cache stays below some 2 MB."""


class ClipTokenizer:
    """CLIP's tokenizer; implements core.ports.Tokenizer. Cheap to make: the vocabulary is read on first use.

    Any number of threads may share one. StorageError on first use where the installation lacks something.
    """

    vocabulary_size: int = 49408
    start_id: int = SPECIALS["<|startoftext|>"]
    end_id: int = SPECIALS["<|endoftext|>"]
    comma_id: int = 267

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without start and end; never raises, whatever the text.

        Equal to `CLIPTokenizer(...)(text, add_special_tokens=False).input_ids` for texts of Unicode 13's characters;
        what that gives for others depends on the Python and the regex that are installed, and this does not. Texts that
        are built to keep ftfy busy are an exception: lib_embedmerge.tokenizer.repair says which. 20,000 characters take
        well under a second.
        """
        ids: list[int] = []
        for piece in _SPECIALS.split(text):
            # The specials are found in the text as it is typed, and what is between them is repaired piece by piece.
            if piece in SPECIALS:
                ids.append(SPECIALS[piece])
            elif piece:
                for word in _words(piece):
                    ids.extend(_word_ids(word))
        return ids

    def token(self, token_id: int) -> str:
        """A token as the vocabulary spells it, `cat</w>`. IndexError outside the vocabulary."""
        return load_vocabulary().tokens[self._checked(token_id)]

    def ends_word(self, token_id: int) -> bool:
        """Whether a word ends after the token. The two special tokens end none. IndexError outside the vocabulary."""
        return load_vocabulary().ends_word(self._checked(token_id))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens: a space after every token that ends a word, U+FFFD for broken bytes.

        The slow tokenizer's decode(ids, clean_up_tokenization_spaces=False) without its last step, which strips white
        space from both ends; and the four ids that spell `<`, `/`, `w`, `>` one by one stay these characters.
        IndexError outside the vocabulary.
        """
        return b"".join(self._bytes(token_id) for token_id in ids).decode("utf-8", errors="replace")

    def groups(self, ids: Sequence[int]) -> list[list[int]]:
        """The ids in order, in the smallest groups that decode to whole characters.

        Tokens that hold parts of one character stay together; an id that cannot be part of a whole character stands
        alone, so rubbish falls apart instead of swallowing what follows. IndexError outside the vocabulary.
        """
        groups: list[list[int]] = []
        waiting: list[int] = []
        decoder = codecs.getincrementaldecoder("utf-8")()
        for token_id in ids:
            try:
                decoder.decode(self._bytes(token_id))
            except UnicodeDecodeError:
                groups += [[broken] for broken in waiting]
                waiting = []
                decoder.reset()
                try:
                    decoder.decode(self._bytes(token_id))
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
        """A text whose encode() is exactly these ids, or None where decoding gives none: ids that end inside a word,
        that no text is split into, or whose text would be repaired. IndexError outside the vocabulary."""
        text = self.decode(ids).strip(" ")
        return text if self.encode(text) == list(ids) else None

    def _bytes(self, token_id: int) -> bytes:
        """What a token adds to a text."""
        known = load_vocabulary()
        text = known.bytes_of(self._checked(token_id))
        return text + b" " if known.ends_word(token_id) else text

    def _checked(self, token_id: int) -> int:
        if not 0 <= token_id < self.vocabulary_size:
            raise IndexError(f"token id {token_id} is not within 0 to {self.vocabulary_size - 1}")
        return token_id


@lru_cache(maxsize=1)
def clip_tokenizer() -> ClipTokenizer:
    """The one tokenizer that the program shares."""
    return ClipTokenizer()


@lru_cache(maxsize=1)
def _patterns() -> tuple[Any, Any]:
    """White space and words, both as the regex package understands them: its \\s is not re's."""
    try:
        # Both are slow to import, and only encoding needs them. repair uses ftfy: better missed here, in a sentence.
        import_module("ftfy")
        regex = import_module("regex")
    except ImportError as error:
        message = f"The Python package {error.name} is missing. EmbedMerge needs it to read text."
        raise StorageError(message, hint=f"Install it: pip install {error.name}") from error
    return regex.compile(r"\s+"), regex.compile(_WORDS, regex.IGNORECASE)


def _words(text: str) -> Iterator[str]:
    """The words of a text that has no special tokens: repaired, white space joined, lower case."""
    white_space, word = _patterns()
    apart = Apart(repair(text))
    # str.strip is stricter than the pattern on \x1c to \x1f; both are applied, as in the original.
    cleaned = white_space.sub(" ", apart.text).strip().lower()
    return (apart.back(match.group()) for match in word.finditer(cleaned))


def _word_ids(word: str) -> Sequence[int]:
    if len(word) <= _CACHED_LENGTH:
        return _cached_ids(word)
    return _merged(word)


def _merged(word: str) -> Sequence[int]:
    # A special can also come out of repair and lower case: `&lt;|endoftext|&gt;`, `<|ENDOFTEXT|>`.
    if word in SPECIALS:
        return (SPECIALS[word],)
    known = load_vocabulary()
    symbols = [known.byte_ids[byte] for byte in word.encode("utf-8", errors="replace")]
    symbols[-1] += _FINAL
    return tuple(bpe.merge(symbols, known.merges))


_cached_ids: Callable[[str], Sequence[int]] = lru_cache(maxsize=_CACHED_WORDS)(_merged)
