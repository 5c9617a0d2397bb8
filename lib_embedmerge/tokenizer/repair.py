"""ftfy's repair of damaged text, which CLIP's tokenizer begins with, in bounded time. No tokens here.

ftfy works line by line and repeats its fixes on a line until nothing changes: HTML entities, text that was decoded in
the wrong encoding, widths, quotes, control characters, NFC. Usually that takes two rounds. But a text can be written so
that every round uncovers work for the next, `&amp;amp;amp;...` or `Ãƒƒƒƒ...`: then the time is quadratic, and 20,000
characters take a minute.

`repair` gives exactly `ftfy.fix_text(text)`, whichever ftfy 6 is installed, but for the order of marks that came after
Unicode 13 (lib_embedmerge.tokenizer.characters), and for lines whose repair would use up
`_ALLOWANCE`: hundreds of rounds of a short line, 40 of a line of 20,000 characters, where damage takes two to five. In
those lines entities and encodings stay as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import count, groupby
from unicodedata import combining, normalize

from lib_embedmerge.tokenizer.characters import changed

_ALLOWANCE = 1_000_000
"""What all third and later rounds of a text may cost, in units of 0.1 to 0.2 microseconds."""
_ROUND = 1000
"""What a round costs besides one unit for each character, and again for each piece that is repaired on its own."""
_FREE_ROUNDS = 2
_SHORT_MATCH = 16
"""Characters of embedded mojibake that ftfy's inner repair cannot spend long on."""

_LINES = re.compile(r"[^\n]{0,999999}\n|[^\n]{1,1000000}")
"""What ftfy takes for a line: it cuts longer ones."""
_PLAIN = re.compile(r"[\t\n\x20-\x7e]*")
"""Lines that no fix touches, but for the entities in them."""

_DEEP_AMPERSAND = re.compile(r"&(?:amp;|AMP;|#0{0,20}38;|#[xX]0{0,20}26;){16,}")
_SIXTEEN_DEEP = "&" + "amp;" * 16
"""16 rounds are more than any other fix needs, so an ampersand that was escaped more often gives what this gives."""

_MANY_MARKS = r"[\p{M}\uff9e\uff9f]{64,}"
"""Combining marks in a row, which Python's NFC would take quadratic time to put in order."""
_FULL_WIDTH = {0xFF9E: 0x3099, 0xFF9F: 0x309A}
"""The two half-width marks: ftfy makes them combining marks before it comes to NFC."""


class _Allowance:
    """How much more repeated repair a text may cost."""

    def __init__(self) -> None:
        self._left = _ALLOWANCE

    def spend(self, cost: int) -> bool:
        """Whether that much was left."""
        self._left -= cost
        return self._left >= 0


def repair(text: str) -> str:
    """`ftfy.fix_text(text)` in bounded time: see the module's docstring for where it may differ."""
    fixers = _fixers()
    allowance = _Allowance()
    unescape = True
    fixed = []
    for line in _LINES.findall(text):
        # As in ftfy: a "<" says that the text is HTML, whose entities are meant, from that line on.
        unescape = unescape and "<" not in line
        if _PLAIN.fullmatch(line) and not (unescape and "&" in line):
            fixed.append(line)
            continue
        prepared = _in_canonical_order(line)
        settled = _settle(prepared, fixers, allowance, unescape=unescape)
        fixed.append(fixers.others(prepared) if settled is None else settled)
    return "".join(fixed)


@dataclass(frozen=True)
class _Fixers:
    """ftfy's fixes, taken apart so that rounds can be counted.

    entities: `ftfy.fixes.unescape_html`.  encoding_step: one step of `ftfy.fix_encoding`.
    others: every other fix of `ftfy.fix_text`.  is_bad: whether a text may be mojibake.
    embedded: finds pieces that ftfy repairs on their own within one step, in as many steps as they take.
    """

    entities: Callable[[str], str]
    encoding_step: Callable[[str], str]
    others: Callable[[str], str]
    is_bad: Callable[[str], bool]
    embedded: re.Pattern[str]


@lru_cache(maxsize=1)
def _fixers() -> _Fixers:
    import ftfy
    from ftfy import badness, chardata, fixes

    # Its name is private, but the same in every ftfy 6. Without it steps cannot be counted: all pass for one.
    one_step = getattr(ftfy, "_fix_encoding_one_step_and_explain", ftfy.fix_encoding_and_explain)
    config = ftfy.TextFixerConfig()
    other_fixes = ftfy.TextFixerConfig(unescape_html=False, fix_encoding=False, explain=False)
    return _Fixers(
        entities=fixes.unescape_html,
        encoding_step=lambda text: str(one_step(text, config)[0]),
        others=lambda text: changed(text, lambda known: ftfy.fix_text(known, other_fixes)),
        is_bad=badness.is_bad,
        embedded=chardata.UTF8_DETECTOR_RE,
    )


def _settle(line: str, fixers: _Fixers, allowance: _Allowance, *, unescape: bool) -> str | None:
    """`ftfy.fix_text(line)`, round by round; None where the allowance does not last."""
    for done in count():
        if done >= _FREE_ROUNDS and not allowance.spend(_ROUND + len(line)):
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
    """`ftfy.fix_encoding(text)`, step by step, the first `free` of them for nothing; None where the allowance does not
    last."""
    for done in count():
        if not fixers.is_bad(text):
            return text
        embedded = [match.group() for match in fixers.embedded.finditer(text)]
        if done >= free and not allowance.spend(_ROUND * (1 + len(embedded)) + len(text)):
            break
        lengthy = (part for part in embedded if _SHORT_MATCH < len(part) < len(text))
        if any(_settle_encoding(part, fixers, allowance, max(0, free - done)) is None for part in lengthy):
            break
        fixed = fixers.encoding_step(text)
        if fixed == text:
            return text
        text = fixed
    return None


def _in_canonical_order(line: str) -> str:
    """The same line to NFC and to every other fix, with its long runs of combining marks in canonical order."""
    regex = import_module("regex")  # re knows no \p{M}; this way of importing needs no type stubs
    return changed(line, lambda known: str(regex.sub(_MANY_MARKS, lambda match: _sorted_marks(match.group()), known)))


def _sorted_marks(marks: str) -> str:
    parts = "".join(normalize("NFD", mark) for mark in marks.translate(_FULL_WIDTH))
    runs = groupby(parts, key=lambda mark: combining(mark) == 0)
    # Marks of class 0 stay where they are and keep others from passing them: Unicode standard, D108 to D109.
    return "".join("".join(run if fixed else sorted(run, key=combining)) for fixed, run in runs)
