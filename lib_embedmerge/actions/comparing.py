"""Compare two or more checkpoint files pair by pair: their token tables, their layers, and their outputs for a text.

checkpoints/comparison.py compares weights, checkpoints/outputs.py runs encoders. This module decides what is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.checkpoints.canonical import CanonicalWeight
from lib_embedmerge.checkpoints.comparison import (
    Report,
    compare_layers,
    compare_tables,
    find_layer_weights,
    make_equal_layers,
    make_equal_table,
)
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.core.architecture import ENCODER_TITLES, MAX_VECTORS, takes_penultimate
from lib_embedmerge.core.arrays import Array, require_torch
from lib_embedmerge.core.differences import Comparison, LayersDifference, Outputs, TableDifference
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import EmbeddingNames, Progress
from lib_embedmerge.core.value_count import ValueCount
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.facade import CheckpointModel, open_checkpoint
from lib_embedmerge.lang.typed import read_typed
from lib_embedmerge.recipes.fit import fit_by_architecture, fit_by_recipe
from lib_embedmerge.recipes.run import RECIPE_ERRORS, run_recipe

if TYPE_CHECKING:
    from lib_embedmerge.checkpoints.outputs import EncoderOutput


@dataclass(frozen=True)
class CompareRequest:
    """Options of a comparison.

    source: a typed expression or prompt for which outputs are compared.  embedding: a file instead of a source.
    embeddings: the embeddings that texts may name, as a folder or a finder of names.  device: `cpu`, `cuda` or `auto`.
    top: how many of the tokens that differ most are listed.
    effect: whether to measure the effect of the source or embedding on each pair, which takes up to minutes.
    """

    source: str | None = None
    embedding: str | Path | None = None
    embeddings: str | Path | EmbeddingNames | None = None
    device: str = "cpu"
    top: int = 10
    effect: bool = False


def compare_models(
    paths: Sequence[str | Path], request: CompareRequest | None = None, progress: Progress | None = None
) -> tuple[Comparison, ...]:
    """One comparison for each pair of checkpoints, in the order of `paths`, which are also their labels.

    progress: called with (values read, values in all). An exception that it raises ends the work.
    CheckpointError if a file cannot be used, ExpressionError or StorageError if the source or the embedding cannot,
    HostError if encoders must be run but torch is not installed.
    """
    request = request or CompareRequest()
    if len(paths) < 2:
        raise CheckpointError("Comparing needs two checkpoints.", hint="Choose two or more.")
    if request.source is not None and request.embedding is not None:
        raise StorageError("Compare by a text or by an embedding, not by both.", hint="Give only one of them.")
    if request.effect and request.source is None and request.embedding is None:
        raise StorageError("An effect is that of a text or an embedding.", hint="Give one of them.")
    models = [open_checkpoint(path, embeddings=request.embeddings, device=request.device) for path in paths]
    sides = [
        _Side(str(path), model, encoder_input)
        for path, model, encoder_input in zip(paths, models, _make_inputs(models, request), strict=True)
    ]
    pairs = list(combinations(sides, 2))
    count = ValueCount(
        sum(map(_count_values_to_run, sides)) + sum(_count_values_to_compare(a, b) for a, b in pairs), progress
    )
    for side in sides:
        side.run(count.add)
    compared = tuple(_compare_pair(a, b, request, count.add) for a, b in pairs)
    return tuple(_add_effect(pair, request, progress) for pair in compared) if request.effect else compared


def _add_effect(pair: Comparison, request: CompareRequest, progress: Progress | None) -> Comparison:
    """A comparison with the effect, or with a warning that says why there is none."""
    from lib_embedmerge.actions.measuring_effect import EffectRequest, measure_effects

    wanted = EffectRequest(request.source, request.embedding, embeddings=request.embeddings, device=request.device)
    try:
        (effect,) = measure_effects([pair.a, pair.b], wanted, progress)
    except (CheckpointError, StorageError) as error:
        return replace(pair, warnings=(*pair.warnings, f"The effect cannot be measured: {error.message}"))
    return replace(pair, effect=effect)


@dataclass(frozen=True)
class _EncoderInput:
    """The input for the encoders of one model.

    vectors: those of the source on this model, or the stored ones of the embedding; empty if it does not fit the model,
    or if no outputs are compared.  rebuilt: the vectors that the embedding's recipe gives on this model, if it has one.
    differs: whether these differ from the stored ones.  note: why there are no vectors, or warnings about the source.
    """

    vectors: Mapping[str, Array] = field(default_factory=dict)
    rebuilt: Mapping[str, Array] = field(default_factory=dict)
    differs: bool | None = None
    note: str = ""


class _Side:
    """One of the checkpoints.

    weights: encoder key -> weights of its layers.  faults: encoder key -> why these cannot be read.
    fingerprints: empty if they are not cached, since measuring them would take as long as the comparison.
    outputs, rebuilt: encoder key -> its output for the input's `vectors` and `rebuilt`.
    """

    def __init__(self, label: str, model: CheckpointModel, encoder_input: _EncoderInput) -> None:
        self.label = label
        self.architecture = model.facts.architecture
        self.encoders = {encoder.key: encoder for encoder in model.encoders}
        self.weights: dict[str, dict[str, CanonicalWeight]] = {}
        self.faults: dict[str, str] = {}
        for key, encoder in self.encoders.items():
            self._find_layers(key, encoder)
        self.fingerprints = model.fingerprints() if model.has_fingerprints else {}
        self.input = encoder_input
        self.outputs: dict[str, EncoderOutput] = {}
        self.rebuilt: dict[str, EncoderOutput] = {}

    def _find_layers(self, key: str, encoder: CheckpointEncoder) -> None:
        try:
            self.weights[key] = find_layer_weights(encoder.source)
        except CheckpointError as error:  # an unknown quantisation; the token table may still be good
            self.faults[key] = error.message

    def run(self, report: Report) -> None:
        """Run each encoder on the input, with one encoder in memory at a time."""
        if not self.input.vectors:
            return
        require_torch("Comparing the outputs of text encoders is")
        from lib_embedmerge.checkpoints.outputs import run_encoder  # which imports torch

        penultimate = takes_penultimate(self.architecture)
        for key in self.input.vectors:
            runs = [vectors[key] for vectors in (self.input.vectors, self.input.rebuilt) if vectors]
            outputs = run_encoder(self.encoders[key], runs, report, penultimate=penultimate)
            self.outputs[key] = outputs[0]
            if self.input.rebuilt:
                self.rebuilt[key] = outputs[1]

    def count_layer_values(self, key: str) -> int:
        """The number of values in the layers of one encoder."""
        return sum(weight.count for weight in self.weights.get(key, {}).values())


def _count_values_to_run(side: _Side) -> int:
    return sum(map(side.count_layer_values, side.input.vectors))


def _count_values_to_compare(a: _Side, b: _Side) -> int:
    encoders = {key: a.encoders[key] for key in _list_shared(a, b)}
    return sum(e.vocabulary_size * e.width + a.count_layer_values(key) for key, e in encoders.items())


def _list_shared(a: _Side, b: _Side) -> list[str]:
    """The keys of the text encoders that both have."""
    return [key for key in a.encoders if key in b.encoders]


def _list_missing(side: _Side, other: _Side) -> tuple[str, ...]:
    """The keys of the text encoders that `side` has and `other` has not."""
    return tuple(key for key in side.encoders if key not in other.encoders)


def _make_inputs(models: Sequence[CheckpointModel], request: CompareRequest) -> list[_EncoderInput]:
    if request.source is not None:
        typed = read_typed(request.source)
        source, note = typed.parsed, " ".join(typed.all_remarks)
        return [_EncoderInput(evaluate(source, model), note=note) for model in models]
    if request.embedding is not None:
        embedding = load_embedding(request.embedding)
        if embedding.count > MAX_VECTORS:
            message = (
                f"{embedding.name} has {embedding.count} vectors; a text encoder reads at most {MAX_VECTORS} at a time."
            )
            raise StorageError(message)
        return [_make_embedding_input(embedding, model) for model in models]
    return [_EncoderInput() for _ in models]


def _make_embedding_input(embedding: Embedding, model: CheckpointModel) -> _EncoderInput:
    if other := fit_by_architecture(embedding, model):
        return _EncoderInput(note=f"{model.facts.file_name}: the embedding does not fit. {other.detail}")
    tag = embedding.tag
    if tag is None or not tag.recipe:
        return _EncoderInput(embedding.vectors)
    try:
        fresh = run_recipe(tag.recipe, tag.uses, model)
    except RECIPE_ERRORS as error:
        return _EncoderInput(
            embedding.vectors, note=f"{model.facts.file_name}: its recipe does not work on it. {error.message}"
        )
    return _EncoderInput(embedding.vectors, fresh, fit_by_recipe(embedding.vectors, fresh).status == FitStatus.DIFFERS)


def _compare_pair(a: _Side, b: _Side, request: CompareRequest, report: Report) -> Comparison:
    keys = _list_shared(a, b)
    tables = {key: _compare_tables(a, b, key, request.top, report) for key in keys}
    layers = {key: _compare_layers(a, b, key, report) for key in keys}
    has_input = request.source is not None or request.embedding is not None
    has_rebuilt = bool(a.outputs and b.rebuilt)
    return Comparison(
        a=a.label,
        b=b.label,
        token_table=tables,
        text_encoder=layers,
        outputs=_compare_outputs(a, b, b.outputs) if has_input else None,
        outputs_rebuilt=_compare_outputs(a, b, b.rebuilt) if has_rebuilt else None,
        needs_rebuild=b.input.differs if has_rebuilt else None,
        warnings=tuple(_find_warnings(a, b, layers)),
        only={"a": _list_missing(a, b), "b": _list_missing(b, a)},
    )


def _compare_tables(a: _Side, b: _Side, key: str, top: int, report: Report) -> TableDifference:
    first, second = a.encoders[key], b.encoders[key]
    hashes = [side.fingerprints[key].token_table for side in (a, b) if key in side.fingerprints]
    if len(hashes) == 2 and hashes[0] == hashes[1]:
        report(first.vocabulary_size * first.width)
        return make_equal_table(first)
    return compare_tables(first, second, top, report)


def _compare_layers(a: _Side, b: _Side, key: str, report: Report) -> LayersDifference:
    ours, theirs = a.weights.get(key), b.weights.get(key)
    if ours is None or theirs is None:
        return LayersDifference(equal=None, distance=None)
    hashes = [side.fingerprints[key].text_encoder for side in (a, b) if key in side.fingerprints]
    if len(hashes) == 2 and hashes[0] is not None and hashes[0] == hashes[1]:
        report(a.count_layer_values(key))
        return make_equal_layers(ours)
    return compare_layers(ours, theirs, report)


def _compare_outputs(a: _Side, b: _Side, of_b: Mapping[str, EncoderOutput]) -> Outputs:
    """The outputs of a compared with outputs of b; nothing if their UNets are conditioned on different layers."""
    if takes_penultimate(a.architecture) != takes_penultimate(b.architecture):
        return {}
    if not a.outputs:
        return {}
    from lib_embedmerge.checkpoints.outputs import compare_outputs  # which imports torch

    return {key: compare_outputs(output, of_b[key]) for key, output in a.outputs.items() if key in of_b}


def _find_warnings(a: _Side, b: _Side, layers: Mapping[str, LayersDifference]) -> Iterator[str]:
    # It does not matter why a recipe cannot be run on the first of the two: there the stored vectors are used.
    notes = (side.input.note for side in (a, b) if side.input.note and (side is b or not side.outputs))
    yield from dict.fromkeys(notes)
    if a.outputs and b.outputs and takes_penultimate(a.architecture) != takes_penultimate(b.architecture):
        titles = f"{a.architecture.title} and {b.architecture.title}"
        yield f"{titles} use different layers of a text encoder, so the outputs are not compared."
    for key, difference in layers.items():
        title = ENCODER_TITLES[key]
        counts = [f"{side.encoders[key].vocabulary_size:,}" for side in (a, b)]
        if counts[0] != counts[1]:
            yield f"{title} has {counts[0]} tokens in one and {counts[1]} in the other; shared tokens are compared."
        yield from (side.faults[key] for side in (a, b) if key in side.faults)
        if any(layer.distance is None for layer in difference.layers):
            yield f"Some layers of {title} have no distance: they contain invalid numbers, or only one model has them."
