"""Names of embeddings: which ones a disk takes, and which ones web UIs find in a prompt.

A name is a file's stem and the words that call it up, so it has to be good as both. The rules are in
docs/embedding-files.md, "Names"; they were measured on the web UIs' own tokenizers and prompt parsers. What embeddings
there are is library.py's knowledge.
"""

from __future__ import annotations

import functools
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
"""Characters; leaves room for a folder within the 260 of a Windows path."""

_MAX_BYTES = 255
"""Of a file name on every common file system, the suffix included."""

_BETTER_LENGTH = 60

_LOOKED_AT = 400
"""Characters of a name that are looked at: more than any file's can have, and few enough to answer as one types."""

_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_WEBUI_WORDS = re.compile(r"\b(AND|BREAK)\b")
_FILE_ENDING = re.compile(r"(\.(safetensors|pt|pth|bin|ckpt|preview))+$", re.IGNORECASE)

_UNSEEN_KINDS = {"Cc", "Cf", "Cn", "Zs", "Zl", "Zp"}
_FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters, marks and symbols that leave no mark (Unicode's Default_Ignorable_Code_Point, and the blank Braille one)."""

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
    """What is wrong with a name.

    error: why no file can be called that, or None.  warnings: why web UIs would not find it or find it where it is not
    meant, one sentence each.  better: a name that checks clean, None where this one does.
    """

    error: str | None
    warnings: tuple[str, ...]
    better: str | None


def find_name_error(name: str) -> str | None:
    """Why no embedding's file can be called that on Windows, Linux or macOS, one sentence; None where it can."""
    return next(_name_errors(name), None)


def _name_errors(name: str) -> Iterator[str]:
    if not name.strip():
        yield "The name is empty."
    if name in {".", ".."}:
        yield f"{quote(name)} is a folder, not a name."
    if _LONE_SURROGATE.search(name):
        yield "The name contains a broken character, often a cut emoji."
    if found := _FORBIDDEN.search(name):
        yield f"A file name cannot contain {quote(found[0])}."
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
    yield from _unseen(name)


def _unseen(name: str) -> Iterator[str]:
    if not any(map(_is_seen, name)):
        yield "The name has only invisible characters."


def _is_seen(character: str) -> bool:
    """Whether a character leaves a mark: no space, no control or format character, no filler."""
    return unicodedata.category(character) not in _UNSEEN_KINDS and not _FILLERS.match(character)


def without_suffix(name: str) -> str:
    """A name, also where the file's was given: `my cat` of `my cat.safetensors`."""
    return name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) and len(name) > len(SUFFIX) else name


def is_passed_over(stem: str) -> bool:
    """Whether a file of that name counts as no embedding, whatever its format: hidden files are leftovers, ours or
    those that macOS puts on foreign disks; `x.preview.*` belong to `x`."""
    return stem.startswith(_HIDDEN) or stem.lower().endswith(_PREVIEW)


def check_name(name: str, *, existing: Iterable[str] = (), tokenizer: Tokenizer) -> NameCheck:
    """Everything that speaks against a name. existing: names of the embeddings beside it, without its own old file."""
    others = _Others(existing, tokenizer)
    error = find_name_error(name)
    name = name[:_LOOKED_AT]
    reasons = list(_reasons(name, others, tokenizer))
    if error is None and not reasons:
        return NameCheck(None, (), None)
    better = _better(name, others, tokenizer)
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return NameCheck(error, tuple(f"'{shown}' {reason}; '{better}' is safe." for reason in reasons), better)


class _Others:
    """The token ids of other embeddings' names.

    A name that another one begins with is no fault: the longer one wins on AUTOMATIC1111, Forge, reForge and ComfyUI.
    """

    def __init__(self, names: Iterable[str], tokenizer: Tokenizer) -> None:
        self.names = {name.casefold(): name for name in names}
        self.whole: dict[tuple[int, ...], str] = {}
        for name in self.names.values():
            self.whole.setdefault(tuple(tokenizer.encode(name)), name)

    def reason(self, name: str, ids: tuple[int, ...]) -> str | None:
        """Why the name cannot be told from the others in a prompt, or None."""
        if name.casefold() in self.names:
            return "is the name of another embedding"
        if ids in self.whole:
            return f"reads the same in a prompt as the embedding {quote(self.whole[ids])}"
        return None


def _reasons(name: str, others: _Others, tokenizer: Tokenizer) -> Iterator[str]:
    """What speaks against a name in a prompt, as the rest of a sentence that begins with the name."""
    ids = tuple(tokenizer.encode(name))
    if not ids:
        yield "contains nothing that a model reads, so it does not work in a prompt"
        return
    yield from (reason for pattern, reason in _CHARACTER_WARNINGS if pattern.search(name))
    if not _found(ids, tokenizer.encode(f"x, {name}, y")) or not _found(ids, tokenizer.encode(f"x,{name},y")):
        yield "does not work beside a comma in a prompt, because the comma merges with it"
    if len(ids) == 1:
        yield "is an ordinary word, so it would change every prompt with that word"
    elif name in _pieces(tokenizer):
        yield "is part of the vocabulary of CLIP, so diffusers refuses it as a name"
    if reason := others.reason(name, ids):
        yield reason


def _found(ids: Sequence[int], prompt: Sequence[int]) -> bool:
    """Whether ids stand in a prompt's ids, side by side."""
    size = len(ids)
    return any(tuple(prompt[start : start + size]) == tuple(ids) for start in range(len(prompt) - size + 1))


@functools.lru_cache(maxsize=4)
def _pieces(tokenizer: Tokenizer) -> frozenset[str]:
    """The vocabulary as it is spelled, final pieces with their `</w>`."""
    return frozenset(tokenizer.token(index) for index in range(tokenizer.vocabulary_size))


def _better(name: str, others: _Others, tokenizer: Tokenizer) -> str:
    def is_clean(candidate: str) -> bool:
        return find_name_error(candidate) is None and next(_reasons(candidate, others, tokenizer), None) is None

    candidates = itertools.chain([name], _candidates(_tidied(name)))
    return next(candidate for candidate in candidates if is_clean(candidate))


def _tidied(name: str) -> str:
    """The letters, digits and marks of a name that every tool takes, accents dropped, words joined by `_`."""
    cut = _FILE_ENDING.sub("", name)
    plain = "".join(c for c in unicodedata.normalize("NFKD", cut) if not unicodedata.combining(c))
    joined = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)
    calm = _WEBUI_WORDS.sub(lambda word: word[0].lower(), re.sub(r"([._-])[._-]+", r"\1", joined))
    found = _PLAIN.search(calm[:_BETTER_LENGTH])
    return found[0] if found else "my_embedding"


def _candidates(base: str) -> Iterator[str]:
    """Endless names from one: with a word after it, or before it."""
    yield base
    words = ("".join(letters) for size in itertools.count(1) for letters in _letters(size))
    for word in itertools.chain(["em"], words):
        yield f"{base}_{word}"
        yield f"{word}_{base}"


def _letters(size: int) -> Iterator[tuple[str, ...]]:
    return itertools.product(string.ascii_lowercase, repeat=size)
