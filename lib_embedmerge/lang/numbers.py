"""Numbers of the language: which are allowed, and how they are printed."""

from __future__ import annotations

import struct
from decimal import Decimal


def to_float32(value: float) -> float | None:
    """The value rounded to float32, or None if it is too large for float32 or not a number."""
    try:
        (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return None
    return float(rounded) if rounded - rounded == 0 else None


def print_number(value: float) -> str:
    """The shortest decimal that reads back as the same float64; without an exponent, which the language lacks."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
