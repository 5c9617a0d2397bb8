"""Checks of names for embeddings: whether a file can have the name, and whether web UIs find it in a prompt.

A name is both the stem of a file and a text in prompts. The rules are in docs/embedding-files.md, "Names"; they were
measured with the tokenizers and prompt parsers of the web UIs.
"""

from __future__ import annotations

import itertools
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.errors import quote

MAX_NAME = 100
"""Largest number of characters in a name, which leaves room for a folder in the 260 of a path on Windows."""

_MAX_BYTES = 255
"""Largest size of a file name with its ending, as UTF-8, on common file systems."""

_BETTER_LENGTH = 60
"""Largest number of characters of a name that a suggestion is made from."""

_MAX_CHECKED = 400
"""Number of characters that are checked: more than a file name can have, and few enough for a check while typing."""

_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_WEBUI_WORDS = re.compile(r"\b(AND|BREAK)\b")
_FILE_ENDING = re.compile(r"(\.(safetensors|pt|pth|bin|ckpt|preview))+$", re.IGNORECASE)

_INVISIBLE_KINDS = {"Cc", "Cf", "Cn", "Zs", "Zl", "Zp"}
_FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Invisible letters, marks and symbols: Unicode's Default_Ignorable_Code_Point, and the blank Braille pattern."""

_HIDDEN = "."
_PREVIEW = ".preview"

_CHARACTER_WARNINGS = (
    (re.compile(r"\s"), "has a space, where ComfyUI ends a name"),
    (re.compile(r"[,:]"), "has a comma or colon, which breaks (name:1.2) and the generation parameters"),
    (re.compile(r"[()\[\]\\{}]"), "has brackets or a backslash, which web UIs read as attention or prompt editing"),
    (re.compile(r"['\"`]"), "has a quote, which ends a text in an expression"),
    (re.compile(r"&"), "has an &, which the two text encoders may read differently"),
    (re.compile(r"[^\x00-\x7f]"), "has characters such as é or 猫, which InvokeAI and some disks do not allow"),
    (
        re.compile(r"[!#$%+;=@^~]"),
        "has characters other than letters, digits, '.', '_' and '-', so InvokeAI cannot use it",
    ),
    (re.compile(r"^[._-]"), "begins with a mark, which can merge with what comes before it"),
    (_WEBUI_WORDS, "has AND or BREAK as a word, where web UIs split a prompt"),
    (_FILE_ENDING, "ends like a file name, and some programs cut that off"),
)


@dataclass(frozen=True)
class NameCheck:
    """The result of a check of a name.

    error: why no file can have the name, or None.
    warnings: why web UIs would not find it, or would find it in texts that do not mean it, one sentence each.
    better: a similar name without errors and warnings; None if this one has none.
    """

    error: str | None
    warnings: tuple[str, ...]
    better: str | None


def find_name_error(name: str) -> str | None:
    """Why an embedding's file cannot have this name on Windows, Linux or macOS, as a sentence; None if it can."""
    return next(_find_errors(name), None)


def _find_errors(name: str) -> Iterator[str]:
    """All reasons why a file cannot have a name, the most helpful first."""
    if not name.strip():
        yield "The name is empty."
    if name in {".", ".."}:
        yield f"{quote(name)} is a folder, not a name."
    if _LONE_SURROGATE.search(name):
        yield "The name contains a broken character, often a cut emoji."
    if forbidden := _FORBIDDEN.search(name):
        yield f"A file name cannot contain {quote(forbidden[0])}."
    if name.startswith(_HIDDEN):
        yield "A name cannot begin with a dot, which marks hidden files."
    if name.lower().endswith(_PREVIEW):
        yield f"A name cannot end in {_PREVIEW}, which marks preview pictures."
    if name[-1] in ". " or name[0] == " ":
        yield "A name cannot begin with a space, or end with a space or a dot."
    if _RESERVED.fullmatch(name.partition(".")[0].rstrip(" ")):
        yield f"Windows reserves the name {name.partition('.')[0]}."
    if len(name) > MAX_NAME or len((name + SUFFIX).encode("utf-8")) > _MAX_BYTES:
        size = f"it has {len(name)} characters. Up to {MAX_NAME} fit, fewer with characters such as é or 猫"
        yield f"The name is too long: {size}."
    yield from _find_invisible(name)


def _find_invisible(name: str) -> Iterator[str]:
    """The reason against a name without visible characters, or nothing."""
    if not any(map(_is_visible, name)):
        yield "The name has only invisible characters."


def _is_visible(character: str) -> bool:
    """Whether a character is visible: not a space, control or format character, or a filler."""
    return unicodedata.category(character) not in _INVISIBLE_KINDS and not _FILLERS.match(character)


def remove_suffix(name: str) -> str:
    """The name without the ending `.safetensors`, if it has one: `my cat` for `my cat.safetensors`."""
    return name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) and len(name) > len(SUFFIX) else name


def is_ignored_file(stem: str) -> bool:
    """Whether a file with this stem is not an embedding, whatever its ending.

    Hidden files are leftovers of EmbedMerge or of macOS. `x.preview.*` are previews of `x`.
    """
    return stem.startswith(_HIDDEN) or stem.lower().endswith(_PREVIEW)


def check_name(name: str, *, existing: Iterable[str] = (), tokenizer: Tokenizer) -> NameCheck:
    """Check a name for a file and for prompts.

    existing: names of the other embeddings in the library; not that of a file that is to be overwritten.
    """
    others = _OtherNames(existing, tokenizer)
    error = find_name_error(name)
    name = name[:_MAX_CHECKED]
    reasons = list(_find_reasons(name, others, tokenizer))
    if error is None and not reasons:
        return NameCheck(None, (), None)
    better = _find_better(name, others, tokenizer)
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return NameCheck(error, tuple(f"'{shown}' {reason}; '{better}' is safe." for reason in reasons), better)


class _OtherNames:
    """The names of other embeddings and their token ids, to find names that would be confused with them.

    A name may be the beginning of another one: AUTOMATIC1111, Forge, reForge and ComfyUI take the longer one.
    """

    def __init__(self, names: Iterable[str], tokenizer: Tokenizer) -> None:
        self.names = {name.casefold(): name for name in names}
        self.by_ids: dict[tuple[int, ...], str] = {}
        for name in self.names.values():
            self.by_ids.setdefault(tuple(tokenizer.encode(name)), name)

    def find_reason(self, name: str, ids: tuple[int, ...]) -> str | None:
        """Why a prompt cannot distinguish a name from another one, as the end of a sentence, or None."""
        if name.casefold() in self.names:
            return "is the name of another embedding"
        if ids in self.by_ids:
            return f"reads the same in a prompt as the embedding {quote(self.by_ids[ids])}"
        return None


def _find_reasons(name: str, others: _OtherNames, tokenizer: Tokenizer) -> Iterator[str]:
    """Why a name is bad in a prompt, as ends of sentences that begin with the name."""
    ids = tuple(tokenizer.encode(name))
    if not ids:
        yield "contains nothing that a model reads, so it does not work in a prompt"
        return
    yield from (reason for pattern, reason in _CHARACTER_WARNINGS if pattern.search(name))
    if not _contains(ids, tokenizer.encode(f"x, {name}, y")) or not _contains(ids, tokenizer.encode(f"x,{name},y")):
        yield "does not work beside a comma in a prompt, because the comma merges with it"
    if len(ids) == 1:
        yield "is an ordinary word, so it would change every prompt with that word"
    elif tokenizer.has_token(name):
        yield "is part of the vocabulary of CLIP, so diffusers refuses it as a name"
    if reason := others.find_reason(name, ids):
        yield reason


def _contains(ids: Sequence[int], prompt: Sequence[int]) -> bool:
    """Whether the token ids of a prompt contain `ids` in a row."""
    size = len(ids)
    return any(tuple(prompt[start : start + size]) == tuple(ids) for start in range(len(prompt) - size + 1))


def _find_better(name: str, others: _OtherNames, tokenizer: Tokenizer) -> str:
    """A similar name without errors and warnings."""

    def is_clean(candidate: str) -> bool:
        return find_name_error(candidate) is None and next(_find_reasons(candidate, others, tokenizer), None) is None

    candidates = itertools.chain([name], _generate_candidates(_simplify(name)))
    return next(candidate for candidate in candidates if is_clean(candidate))


def _simplify(name: str) -> str:
    """The name with only the characters that every tool takes, without accents, words joined by `_`."""
    stem = _FILE_ENDING.sub("", name)
    plain = "".join(c for c in unicodedata.normalize("NFKD", stem) if not unicodedata.combining(c))
    joined = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)
    simple = _WEBUI_WORDS.sub(lambda word: word[0].lower(), re.sub(r"([._-])[._-]+", r"\1", joined))
    match = _PLAIN.search(simple[:_BETTER_LENGTH])
    return match[0] if match else "my_embedding"


def _generate_candidates(base: str) -> Iterator[str]:
    """The name, and then endless variants with a word after it or before it."""
    yield base
    words = ("".join(letters) for size in itertools.count(1) for letters in _generate_words(size))
    for word in itertools.chain(["em"], words):
        yield f"{base}_{word}"
        yield f"{word}_{base}"


def _generate_words(size: int) -> Iterator[tuple[str, ...]]:
    """All words of lower-case letters of one length, as tuples of letters."""
    return itertools.product(string.ascii_lowercase, repeat=size)
