"""Sentences about the lengths of vectors, which say the same as the plot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import EncoderFigures, VectorFigures

_MAX_NUMBERS = 12

SENTENCES = {
    # verdict -> a sentence about the vectors with this verdict
    "long": "Longer than usual",
    "short": "Shorter than usual",
    "zero": "Zero (no effect)",
    "NaN": "Not a number",
    "infinite": "Infinite",
}


def judge_length(vector: VectorFigures, encoder: EncoderFigures) -> str:
    """The verdict on the length of a vector: a key of SENTENCES, or empty if it is usual or cannot be compared."""
    length = vector.figures.len
    if not vector.finite or length - length != 0:
        return "NaN" if math.isnan(length) else "infinite"
    if length == 0:
        return "zero"
    if vector.length_is_usual is not False or encoder.band is None:
        return ""
    return "long" if length > encoder.band.mean else "short"


def describe_lengths(encoder: EncoderFigures) -> list[str]:
    """Sentences that list the vectors with an unusual length, or one sentence that says that there are none."""
    numbers_by_kind: dict[str, list[int]] = {kind: [] for kind in SENTENCES}
    for vector in encoder.vectors:
        kind = judge_length(vector, encoder)
        if kind:
            numbers_by_kind[kind].append(vector.number)
    sentences = [
        f"{SENTENCES[kind]}: {_list_numbers(numbers)}." for kind, numbers in numbers_by_kind.items() if numbers
    ]
    if encoder.band is None:
        return [*sentences, "No model is loaded to compare the lengths with."]
    return sentences or (["No length is far from usual for this model."] if encoder.vectors else [])


def _list_numbers(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MAX_NUMBERS]))
    rest = len(numbers) - _MAX_NUMBERS
    return f"{shown} and {rest} more" if rest > 0 else shown
