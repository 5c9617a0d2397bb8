"""Numbers of the language: what may be written, and how a number is written back."""

from __future__ import annotations

import struct
from decimal import Decimal


def to_float32(value: float) -> float | None:
    """The value as float32 has it, or None where it is too large for a finite one or not a number."""
    try:
        (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return None
    return float(rounded) if rounded - rounded == 0 else None


def print_number(value: float) -> str:
    """The shortest decimal that reads back as the same float64, without an exponent, which the language lacks."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
