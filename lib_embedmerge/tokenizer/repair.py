"""Repair damaged text like ftfy, which is the first step of CLIP's tokenizer, but in bounded time.

ftfy works line by line and repeats its fixes on a line until nothing changes: HTML entities, text that was decoded in
the wrong encoding, widths, quotes, control characters, NFC. Usually that takes two rounds. But a text can be written so
that every round makes work for the next one, such as `&amp;amp;amp;...` or `Ãƒƒƒƒ...`: then the time is quadratic, and
20,000 characters take a minute.

`repair` gives exactly `ftfy.fix_text(text)`, for any installed ftfy 6, with two exceptions: the order of combining
marks newer than Unicode 13 (lib_embedmerge.tokenizer.characters), and lines whose repair would use up `_ALLOWANCE`.
That takes hundreds of rounds for a short line and 40 for a line of 20,000 characters; real damage takes two to five. In
such lines entities and wrongly decoded text stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import count, groupby
from unicodedata import combining, normalize

from lib_embedmerge.errors import StorageError
from lib_embedmerge.tokenizer.characters import change_known_characters

_ALLOWANCE = 1_000_000
"""Total cost of all rounds of a text from the third one on, in units of 0.1 to 0.2 microseconds."""
_ROUND_COST = 1000
"""Cost of a round in addition to one unit for each character, and of each piece that is repaired separately."""
_FREE_ROUNDS = 2
_MAX_SHORT_MATCH = 16
"""Length of embedded mojibake up to which ftfy's inner repair is always quick."""

_LINES = re.compile(r"[^\n]{0,999999}\n|[^\n]{1,1000000}")
"""Pattern of a line in ftfy, which cuts longer lines."""
_ACCENTED = r"\u00c0\u00c1\u00c4-\u00d6\u00d8-\u00f6\u00f8-\u0131\u0134-\u0148\u014a-\u017e"
_EASTERN = r"\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
"""Kana, Chinese and Korean characters that ftfy leaves wherever they are."""
_PLAIN = re.compile(rf"(?:[\t\n\x20-\x7e{_EASTERN}]|[{_ACCENTED}](?![^\x00-\x7f]))*")
"""Pattern of lines in which ftfy changes nothing except HTML entities: not all of them, but those of most texts.

Letters with accents are taken for wrongly decoded ones only next to other characters beyond ASCII.
"""

_DEEP_AMPERSAND = re.compile(r"&(?:amp;|AMP;|#0{0,20}38;|#[xX]0{0,20}26;){16,}")
_SIXTEEN_DEEP = "&" + "amp;" * 16
"""Replaces an ampersand that was escaped more often: 16 rounds are more than any other fix needs, so the result is the
same."""

_MANY_MARKS = r"[\p{M}\uff9e\uff9f]{64,}"
"""Pattern of many combining marks in a row, for which Python's NFC takes quadratic time."""
_COMBINING_MARKS = {0xFF9E: 0x3099, 0xFF9F: 0x309A}
"""Half-width mark -> combining mark, for the two that ftfy replaces before NFC."""


class _Allowance:
    """The cost that is left for the repair of a text."""

    def __init__(self) -> None:
        self._left = _ALLOWANCE

    def spend(self, cost: int) -> bool:
        """Subtract a cost; whether that much was left."""
        self._left -= cost
        return self._left >= 0


def repair(text: str) -> str:
    """`ftfy.fix_text(text)` in bounded time. The module's docstring says for which texts the result differs.

    StorageError if ftfy is missing and the text has characters that it may change; `_PLAIN` says which it does not.
    """
    allowance = _Allowance()
    unescape = True
    fixed = []
    for line in _LINES.findall(text):
        # As in ftfy: from the first line with "<" on the text counts as HTML, whose entities stay.
        unescape = unescape and "<" not in line
        if _PLAIN.fullmatch(line) and not (unescape and "&" in line):
            fixed.append(line)
            continue
        prepared = _sort_long_runs_of_marks(line)
        fixers = _load_fixers()
        settled = _settle(prepared, fixers, allowance, unescape=unescape)
        fixed.append(fixers.others(prepared) if settled is None else settled)
    return "".join(fixed)


@dataclass(frozen=True)
class _Fixers:
    """The fixes of ftfy as separate functions, so that rounds can be counted.

    entities: `ftfy.fixes.unescape_html`.  encoding_step: one step of `ftfy.fix_encoding`.
    others: all other fixes of `ftfy.fix_text`.  is_bad: whether a text may be mojibake.
    embedded: pattern of the pieces that ftfy repairs completely within one step.
    """

    entities: Callable[[str], str]
    encoding_step: Callable[[str], str]
    others: Callable[[str], str]
    is_bad: Callable[[str], bool]
    embedded: re.Pattern[str]


@lru_cache(maxsize=1)
def _load_fixers() -> _Fixers:
    try:
        import ftfy
        from ftfy import badness, chardata, fixes
    except ImportError as error:
        message = f"The Python package {error.name} is missing. EmbedMerge needs it to read this text."
        raise StorageError(message, hint=f"Install it: pip install {error.name}") from error

    # The name is private but the same in every ftfy 6. Without this function all steps count as one.
    one_step = getattr(ftfy, "_fix_encoding_one_step_and_explain", ftfy.fix_encoding_and_explain)
    config = ftfy.TextFixerConfig()
    other_fixes = ftfy.TextFixerConfig(unescape_html=False, fix_encoding=False, explain=False)
    return _Fixers(
        entities=fixes.unescape_html,
        encoding_step=lambda text: str(one_step(text, config)[0]),
        others=lambda text: change_known_characters(text, lambda known: ftfy.fix_text(known, other_fixes)),
        is_bad=badness.is_bad,
        embedded=chardata.UTF8_DETECTOR_RE,
    )


def _settle(line: str, fixers: _Fixers, allowance: _Allowance, *, unescape: bool) -> str | None:
    """`ftfy.fix_text(line)`, round by round, or None if the allowance is used up first."""
    for done in count():
        if done >= _FREE_ROUNDS and not allowance.spend(_ROUND_COST + len(line)):
            break
        unescaped = fixers.entities(_DEEP_AMPERSAND.sub(_SIXTEEN_DEEP, line)) if unescape else line
        decoded = _settle_encoding(unescaped, fixers, allowance)
        if decoded is None:
            break
        fixed = fixers.others(decoded)
        if fixed == line:
            return line
        line = fixed
    return None


def _settle_encoding(text: str, fixers: _Fixers, allowance: _Allowance, free: int = _FREE_ROUNDS) -> str | None:
    """`ftfy.fix_encoding(text)`, step by step, or None if the allowance is used up first.

    free: how many of the first steps cost nothing.
    """
    for done in count():
        if not fixers.is_bad(text):
            return text
        embedded = [match.group() for match in fixers.embedded.finditer(text)]
        if done >= free and not allowance.spend(_ROUND_COST * (1 + len(embedded)) + len(text)):
            break
        lengthy = (part for part in embedded if _MAX_SHORT_MATCH < len(part) < len(text))
        if any(_settle_encoding(part, fixers, allowance, max(0, free - done)) is None for part in lengthy):
            break
        fixed = fixers.encoding_step(text)
        if fixed == text:
            return text
        text = fixed
    return None


def _sort_long_runs_of_marks(line: str) -> str:
    """A line with its long runs of combining marks in canonical order, which does not change the result of any fix."""
    regex = import_module("regex")  # re has no \p{M}; imported like this because regex has no type stubs
    return change_known_characters(
        line, lambda known: str(regex.sub(_MANY_MARKS, lambda match: _sort_marks(match.group()), known))
    )


def _sort_marks(marks: str) -> str:
    """A run of combining marks, decomposed and in canonical order."""
    parts = "".join(normalize("NFD", mark) for mark in marks.translate(_COMBINING_MARKS))
    runs = groupby(parts, key=lambda mark: combining(mark) == 0)
    # Marks of class 0 stay in place, and no other mark moves past them: Unicode standard, D108 to D109.
    return "".join("".join(run if fixed else sorted(run, key=combining)) for fixed, run in runs)
