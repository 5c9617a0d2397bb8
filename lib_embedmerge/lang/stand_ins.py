"""Words that stand in a prompt in place of expressions, for programs that know nothing of those.

They are letters and digits, which web UIs find beside any punctuation (docs/embedding-files.md, "Names") and no prompt
syntax takes apart, and all of one length, so that none is the beginning of another. Digits are a token each, which
tokenizers are quick about.
"""

from __future__ import annotations

import re

PREFIX = "embedmerge"
_DIGITS = 20

DIGEST_SIZE = 8
"""Bytes of the hash that tells one word from another; 64 bits take 20 digits."""

STAND_IN = re.compile(rf"{PREFIX}[0-9]{{{_DIGITS}}}")
"""What such a word looks like."""


def make_stand_in(digest: bytes) -> str:
    """The word for a hash of DIGEST_SIZE bytes."""
    return f"{PREFIX}{int.from_bytes(digest, 'big'):0{_DIGITS}}"
