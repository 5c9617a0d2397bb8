"""Words that replace expressions in a prompt for programs that do not know expressions.

A stand-in consists of letters and digits, so web UIs find it next to any punctuation (docs/embedding-files.md, "Names")
and no prompt syntax splits it. All have the same length, so none is the beginning of another. Each digit is one token,
which tokenizers process quickly.
"""

from __future__ import annotations

import re

PREFIX = "embedmerge"
_DIGITS = 20

DIGEST_SIZE = 8
"""Bytes of the hash in a stand-in; 64 bits take 20 digits."""

STAND_IN = re.compile(rf"{PREFIX}[0-9]{{{_DIGITS}}}")
"""The pattern of a stand-in."""


def make_stand_in(digest: bytes) -> str:
    """The stand-in for a hash of DIGEST_SIZE bytes."""
    return f"{PREFIX}{int.from_bytes(digest, 'big'):0{_DIGITS}}"
