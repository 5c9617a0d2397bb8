"""What two checkpoints differ in, as values, and the sentence that sums it up.

Measured in checkpoints/comparison.py (weights) and checkpoints/outputs.py (what the encoders make of a text).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from lib_embedmerge.core.architecture import ENCODER_TITLES

_AND = " and "


@dataclass(frozen=True)
class TokenDistance:
    """A row of the token table that differs. token: as the vocabulary spells it, `cat</w>`.

    distance: relative (see relative_distance), None where a value of either row is not finite.
    """

    id: int
    token: str
    distance: float | None


@dataclass(frozen=True)
class TableDifference:
    """Two token tables as float16, as fingerprints take them.

    equal: to the last bit.  rows: compared, those that both have.  rows_differing: how many of them are not equal.
    max_distance: the largest, 0 where none differs, None where none of those that differ can be measured.
    top: the rows that differ most; those without a distance first, equal distances by id.
    """

    equal: bool
    rows: int
    rows_differing: int
    max_distance: float | None
    top: tuple[TokenDistance, ...]


@dataclass(frozen=True)
class LayerDistance:
    """name: `embeddings.position`, `layer 0` and so on, `final_layer_norm`, `text_projection`.

    distance: relative, over all weights of the layer; exactly 0 where they are equal in float16, None where a value is
        not finite or a weight is not in both.
    """

    name: str
    distance: float | None


@dataclass(frozen=True)
class LayersDifference:
    """All weights of two text encoders but their token tables, as float16.

    equal: to the last bit; None where the weights of one cannot be read as values.
    distance: over all of them, None as for a layer.  layers: in the order of the encoder; none where equal is None.
    """

    equal: bool | None
    distance: float | None
    layers: tuple[LayerDistance, ...] = ()


@dataclass(frozen=True)
class OutputDifference:
    """What two encoders make of a text: hidden states of its vectors and of the end token, taken as one vector.

    relative_l2: see relative_distance.  cosine: of the hidden states.  pooled_cosine: of CLIP-G's pooled output.
    None where a value is not finite, or the two are of different numbers of vectors; pooled_cosine also for all others
        than CLIP-G.
    """

    relative_l2: float | None
    cosine: float | None
    pooled_cosine: float | None = None


Outputs = Mapping[str, OutputDifference]
"""Encoder key -> difference of outputs."""


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints compared, by the text encoders that both have.

    a, b: what they were called when asked for.  token_table, text_encoder: by encoder key.
    outputs: for a text with the vectors that each model makes of it, for an embedding with its vectors as stored; None
        where none were asked for.
    outputs_rebuilt: for an embedding with a recipe: as stored on a, against what its recipe gives on b; None without.
    needs_rebuild: whether the recipe gives other vectors on b than those stored; None where there is none to run.
    notes: what else there is to know, one sentence each.
    only: label, `a` or `b` -> the text encoders that only this one has.
    """

    a: str
    b: str
    token_table: Mapping[str, TableDifference]
    text_encoder: Mapping[str, LayersDifference]
    outputs: Outputs | None = None
    outputs_rebuilt: Outputs | None = None
    needs_rebuild: bool | None = None
    notes: tuple[str, ...] = field(default=())
    only: Mapping[Literal["a", "b"], tuple[str, ...]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """What it comes to, in a sentence or two for people."""
        if not self.token_table:
            return "They have no text encoder in common, so an embedding for one cannot be used with the other."
        return " ".join(filter(None, (f"{self._tables()}; {self._layers()}.", self._outputs())))

    def as_json(self) -> dict[str, object]:
        """All fields and the verdict, plain; None for figures that are not known."""
        return {
            "a": self.a,
            "b": self.b,
            "token_table": _plain(self.token_table),
            "text_encoder": _plain(self.text_encoder),
            "outputs": self._outputs_as_json(self.outputs),
            "outputs_rebuilt": self._outputs_as_json(self.outputs_rebuilt),
            "needs_rebuild": self.needs_rebuild,
            "only_a": list(self.only.get("a", ())),
            "only_b": list(self.only.get("b", ())),
            "notes": list(self.notes),
            "verdict": self.verdict,
        }

    def _tables(self) -> str:
        differ = [
            f"{table.rows_differing:,} of {table.rows:,} tokens ({ENCODER_TITLES[key]})"
            for key, table in self.token_table.items()
            if table.rows_differing
        ]
        if differ:
            return (
                f"Token tables differ in {_AND.join(differ)}, so an embedding made from these tokens on one model "
                "must be rebuilt for the other"
            )
        if all(table.equal for table in self.token_table.values()):
            return f"Token tables are equal, so {self._right_for_both()}"
        return "Token tables are equal, except for tokens that only one model has"

    def _right_for_both(self) -> str:
        if not any(self.only.values()):
            return "embeddings made on either model are correct for both"
        shared = _AND.join(ENCODER_TITLES[key] for key in self.token_table)
        others = _AND.join(ENCODER_TITLES[key] for keys in self.only.values() for key in keys)
        return (
            f"the {shared} vectors of an embedding made on either model are correct for both; the whole embedding is "
            f"not, because only one model has {others}"
        )

    def _layers(self) -> str:
        states = self.text_encoder
        differ = {key: layers.distance for key, layers in states.items() if layers.equal is False}
        unknown = [ENCODER_TITLES[key] for key, layers in states.items() if layers.equal is None]
        told = []
        if differ:
            told.append(f"the other layers differ{_by(differ)}, so the effect may differ")
        if unknown:
            told.append(f"the other layers of {_AND.join(unknown)} could not be compared")
        too = " too" if all(table.equal for table in self.token_table.values()) else ""
        return "; ".join(told) or f"the other layers are equal{too}"

    def _outputs(self) -> str:
        figures = {key: output.relative_l2 for key, output in (self.outputs or {}).items()}
        if not figures:
            return ""
        if self.needs_rebuild is None or self.outputs_rebuilt is None:
            return f"The outputs of the text encoders differ{_by(figures)}."
        if not self.needs_rebuild:
            return f"This embedding needs no rebuild; the outputs of the text encoders differ{_by(figures)}."
        rebuilt = {key: output.relative_l2 for key, output in self.outputs_rebuilt.items()}
        return (
            "This embedding needs a rebuild for the second model: the outputs of the text encoders differ"
            f"{_by(figures)} as it is, and{_by(rebuilt)} when rebuilt."
        )

    @staticmethod
    def _outputs_as_json(outputs: Outputs | None) -> dict[str, object] | None:
        if outputs is None:
            return None
        # Only CLIP-G has a pooled output that a model uses.
        return {
            key: {name: value for name, value in asdict(output).items() if key == "clip_g" or name != "pooled_cosine"}
            for key, output in outputs.items()
        }


def relative_distance(gap: float, first: float, second: float) -> float | None:
    """The L2 length of a difference over the mean of the two lengths: 0 for none, at most 2.

    The mean, so that it does not matter which of the two is named first, and that a row that is all but zero in one of
    them does not become endlessly far. None where a length is not finite.
    """
    if not all(map(math.isfinite, (gap, first, second))):
        return None
    return min(2.0, 2.0 * gap / (first + second)) if gap else 0.0


def format_percent(distance: float | None) -> str:
    """A distance for people: `12%`, `3.4%`, `0.02%`."""
    if distance is None:
        return "not known"
    if 0 < distance < 0.0001:
        return "under 0.01%"
    places = 0 if distance >= 0.1 or distance == 0 else 1 if distance >= 0.01 else 2
    return f"{distance:.{places}%}"


def _by(distances: Mapping[str, float | None]) -> str:
    """` by 3.0% (CLIP-L) and 12% (CLIP-G)`; nothing of what is not known."""
    known = [
        f"{format_percent(value)} ({ENCODER_TITLES[key]})" for key, value in distances.items() if value is not None
    ]
    return f" by {_AND.join(known)}" if known else ""


def _plain(differences: Mapping[str, TableDifference] | Mapping[str, LayersDifference]) -> dict[str, object]:
    return {key: asdict(difference) for key, difference in differences.items()}
