"""The differences between two checkpoints as values, and a summary in words.

checkpoints/comparison.py measures the weights, checkpoints/outputs.py the outputs of the text encoders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from lib_embedmerge.core.answers import (
    CompareAnswer,
    Figures,
    LayerAnswer,
    LayersAnswer,
    TableAnswer,
    TokenDistanceAnswer,
)
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.effects import Effect
from lib_embedmerge.core.percentages import format_percent

_AND = " and "


@dataclass(frozen=True)
class TokenDistance:
    """A row of the token table that differs between two models.

    id: of the token.  token: as the vocabulary spells it, `cat</w>`.
    distance: relative (see relative_distance), or None if a value in either row is not finite.
    """

    id: int
    token: str
    distance: float | None


@dataclass(frozen=True)
class TableDifference:
    """The difference between two token tables, compared as float16 like fingerprints.

    equal: whether the tables are equal to the last bit.
    rows: number of rows that both have, which are compared.  rows_differing: number of these that differ.
    max_distance: the largest distance, 0 if no row differs, None if no row that differs has a distance.
    top: the rows that differ most, first those without a distance, equal distances by id.
    """

    equal: bool
    rows: int
    rows_differing: int
    max_distance: float | None
    top: tuple[TokenDistance, ...]


@dataclass(frozen=True)
class LayerDistance:
    """The difference of one layer of a text encoder between two models.

    name: `embeddings.position`, `layer 0` and so on, `final_layer_norm`, `text_projection`.
    distance: relative, over all weights of the layer; exactly 0 if they are equal in float16, None if a value is not
        finite or only one model has one of the weights.
    """

    name: str
    distance: float | None


@dataclass(frozen=True)
class LayersDifference:
    """The difference between two text encoders in all weights except the token tables, compared as float16.

    equal: whether they are equal to the last bit; None if the weights of one cannot be read as values.
    distance: relative, over all weights; None if a value is not finite or only one model has one of the weights.
    layers: in the order of the encoder; empty if `equal` is None.
    """

    equal: bool | None
    distance: float | None
    layers: tuple[LayerDistance, ...] = ()


@dataclass(frozen=True)
class OutputDifference:
    """The difference between the outputs of two text encoders for one text.

    The outputs are the hidden states of the text's vectors and of the end token, taken as one long vector.
    relative_l2: see relative_distance.  cosine: of the hidden states.
    pooled_cosine: of the pooled output of CLIP-G; None for all other encoders.
    All are None if a value is not finite or the two have different numbers of vectors.
    """

    relative_l2: float | None
    cosine: float | None
    pooled_cosine: float | None = None


Outputs = Mapping[str, OutputDifference]
"""Encoder key -> difference of outputs."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of two checkpoints by the text encoders that both have.

    a, b: their names, as the user gave them.
    token_table, text_encoder: encoder key -> difference.
    outputs: of a text, with the vectors that each model gives for it; or of an embedding, with its stored vectors; None
        if no outputs were compared.
    outputs_rebuilt: of an embedding with a recipe, with its stored vectors on `a` and those of its recipe on `b`; None
        without a recipe.
    needs_rebuild: whether the recipe gives other vectors on `b` than the stored ones; None without a recipe that runs.
    warnings: what a user should know about the comparison, one sentence each.
    only: `a` or `b` -> keys of the text encoders that only this checkpoint has.
    effect: how differently the text or the stored vectors of the embedding act; None if it was not measured.
    """

    a: str
    b: str
    token_table: Mapping[str, TableDifference]
    text_encoder: Mapping[str, LayersDifference]
    outputs: Outputs | None = None
    outputs_rebuilt: Outputs | None = None
    needs_rebuild: bool | None = None
    warnings: tuple[str, ...] = field(default=())
    only: Mapping[Literal["a", "b"], tuple[str, ...]] = field(default_factory=dict)
    effect: Effect | None = None

    @property
    def verdict(self) -> str:
        """The result of the comparison for people, in one or two sentences."""
        if not self.token_table:
            return "They have no text encoder in common, so an embedding for one cannot be used with the other."
        effect = self.effect.sentence if self.effect else ""
        weights = f"{self._describe_tables()}; {self._describe_layers()}."
        return " ".join(filter(None, (weights, self._describe_outputs(), effect)))

    def as_json(self) -> CompareAnswer:
        """All fields and the verdict as plain JSON data; None for figures that are not known."""
        return {
            "a": self.a,
            "b": self.b,
            "token_table": {key: _table_as_json(table) for key, table in self.token_table.items()},
            "text_encoder": {key: _layers_as_json(layers) for key, layers in self.text_encoder.items()},
            "outputs": self._outputs_as_json(self.outputs),
            "outputs_rebuilt": self._outputs_as_json(self.outputs_rebuilt),
            "needs_rebuild": self.needs_rebuild,
            "effect": self.effect.as_json() if self.effect else None,
            "only_a": list(self.only.get("a", ())),
            "only_b": list(self.only.get("b", ())),
            "notes": list(self.warnings),
            "verdict": self.verdict,
        }

    def _describe_tables(self) -> str:
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
            return f"Token tables are equal, so {self._describe_valid_vectors()}"
        return "Token tables are equal, except for tokens that only one model has"

    def _describe_valid_vectors(self) -> str:
        if not any(self.only.values()):
            return "embeddings made on either model are correct for both"
        shared = _AND.join(ENCODER_TITLES[key] for key in self.token_table)
        others = _AND.join(ENCODER_TITLES[key] for keys in self.only.values() for key in keys)
        return (
            f"the {shared} vectors of an embedding made on either model are correct for both; the whole embedding is "
            f"not, because only one model has {others}"
        )

    def _describe_layers(self) -> str:
        states = self.text_encoder
        differ = {key: layers.distance for key, layers in states.items() if layers.equal is False}
        unknown = [ENCODER_TITLES[key] for key, layers in states.items() if layers.equal is None]
        clauses = []
        if differ:
            clauses.append(f"the other layers differ{_format_distances(differ)}, so the effect may differ")
        if unknown:
            clauses.append(f"the other layers of {_AND.join(unknown)} could not be compared")
        too = " too" if all(table.equal for table in self.token_table.values()) else ""
        return "; ".join(clauses) or f"the other layers are equal{too}"

    def _describe_outputs(self) -> str:
        figures = {key: output.relative_l2 for key, output in (self.outputs or {}).items()}
        if not figures:
            return ""
        if self.needs_rebuild is None or self.outputs_rebuilt is None:
            return f"The outputs of the text encoders differ{_format_distances(figures)}."
        if not self.needs_rebuild:
            return (
                f"This embedding needs no rebuild; the outputs of the text encoders differ{_format_distances(figures)}."
            )
        rebuilt = {key: output.relative_l2 for key, output in self.outputs_rebuilt.items()}
        return (
            "This embedding needs a rebuild for the second model: the outputs of the text encoders differ"
            f"{_format_distances(figures)} as it is, and{_format_distances(rebuilt)} when rebuilt."
        )

    @staticmethod
    def _outputs_as_json(outputs: Outputs | None) -> dict[str, Figures] | None:
        if outputs is None:
            return None
        # Models use a pooled output only of CLIP-G.
        return {
            key: {name: value for name, value in asdict(output).items() if key == "clip_g" or name != "pooled_cosine"}
            for key, output in outputs.items()
        }


def relative_distance(gap: float, first: float, second: float) -> float | None:
    """The length of a difference, relative to the mean of the two lengths: from 0 for no difference to 2.

    gap: L2 length of the difference.  first, second: L2 lengths of the two vectors.
    With the mean the result does not depend on the order of the two, and it stays small if one of them is almost zero.
    None if a length is not finite.
    """
    if not all(map(math.isfinite, (gap, first, second))):
        return None
    return min(2.0, 2.0 * gap / (first + second)) if gap else 0.0


def _format_distances(distances: Mapping[str, float | None]) -> str:
    """The known distances as the end of a clause, ` by 3.0% (CLIP-L) and 12% (CLIP-G)`; empty if none is known."""
    figures = [
        f"{format_percent(value)} ({ENCODER_TITLES[key]})" for key, value in distances.items() if value is not None
    ]
    return f" by {_AND.join(figures)}" if figures else ""


def _table_as_json(table: TableDifference) -> TableAnswer:
    top: list[TokenDistanceAnswer] = [
        {"id": token.id, "token": token.token, "distance": token.distance} for token in table.top
    ]
    return {
        "equal": table.equal,
        "rows": table.rows,
        "rows_differing": table.rows_differing,
        "max_distance": table.max_distance,
        "top": top,
    }


def _layers_as_json(layers: LayersDifference) -> LayersAnswer:
    each: list[LayerAnswer] = [{"name": layer.name, "distance": layer.distance} for layer in layers.layers]
    return {"equal": layers.equal, "distance": layers.distance, "layers": each}
