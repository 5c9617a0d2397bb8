"""Two or more checkpoint files compared: pair by pair their token tables, their layers, and what they make of a text.

Weights are compared in checkpoints/comparison.py, encoders run in checkpoints/outputs.py; what is compared with what is
said here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from torch import Tensor

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
from lib_embedmerge.checkpoints.outputs import EncoderOutput, compare_outputs, run_encoder, takes_penultimate
from lib_embedmerge.core.architecture import ENCODER_TITLES, MAX_VECTORS
from lib_embedmerge.core.differences import Comparison, LayersDifference, Outputs, TableDifference
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import EmbeddingNames, Progress
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.errors import CheckpointError, EmbedMergeError, StorageError
from lib_embedmerge.facade import CheckpointModel, open_checkpoint
from lib_embedmerge.lang.typed import read_typed
from lib_embedmerge.recipes.fit import fit_by_architecture, fit_by_recipe
from lib_embedmerge.recipes.run import run_recipe


@dataclass(frozen=True)
class CompareRequest:
    """What to compare checkpoints by.

    source: an expression or prompt, as it is typed, whose outputs are compared.  embedding: a file, in its place.
    embeddings: those that texts may name, a folder or what finds them.  device: `cpu`, `cuda` or `auto`.
    top: how many tokens to list that differ most.
    """

    source: str | None = None
    embedding: str | Path | None = None
    embeddings: str | Path | EmbeddingNames | None = None
    device: str = "cpu"
    top: int = 10


def compare_models(
    paths: Sequence[str | Path], request: CompareRequest | None = None, progress: Progress | None = None
) -> tuple[Comparison, ...]:
    """One comparison for each pair of checkpoints, in the order of the paths, which name them there.

    progress: called with (values read, values in all); an exception that it raises ends the work.
    CheckpointError where a file cannot be used, ExpressionError or StorageError where the text or the embedding cannot,
    HostError where encoders are to be run and there is no transformers.
    """
    request = request or CompareRequest()
    if len(paths) < 2:
        raise CheckpointError("Comparing needs two checkpoints.", hint="Choose two or more.")
    if request.source is not None and request.embedding is not None:
        raise StorageError("Compare by a text or by an embedding, not by both.", hint="Give only one of them.")
    models = [open_checkpoint(path, embeddings=request.embeddings, device=request.device) for path in paths]
    sides = [
        _Side(str(path), model, given)
        for path, model, given in zip(paths, models, _given(models, request), strict=True)
    ]
    pairs = list(combinations(sides, 2))
    count = _Count(sum(map(_values_to_run, sides)) + sum(_values_to_compare(a, b) for a, b in pairs), progress)
    for side in sides:
        side.run(count.add)
    return tuple(_comparison(a, b, request, count.add) for a, b in pairs)


@dataclass(frozen=True)
class _Given:
    """What goes into the encoders of one model.

    vectors: what the text is there, or the embedding's as stored; none where they do not fit, or none were asked for.
    rebuilt: what the embedding's recipe gives there, if anything.  differs: whether that is something else.
    note: why there is none, or what is to be said of the text; one sentence or more.
    """

    vectors: Mapping[str, Tensor] = field(default_factory=dict)
    rebuilt: Mapping[str, Tensor] = field(default_factory=dict)
    differs: bool | None = None
    note: str = ""


@dataclass
class _Count:
    """How much has been read of all that is to be read."""

    total: int
    progress: Progress | None
    done: int = 0

    def add(self, values: int) -> None:
        self.done += values
        if self.progress is not None:
            self.progress(self.done, self.total)


class _Side:
    """One of the checkpoints.

    weights: encoder key -> those of its layers.  faults: encoder key -> why they cannot be read as values.
    fingerprints: those that are known; to measure them would take as long as to compare.
    outputs, rebuilt: encoder key -> what it has made of the vectors given.
    """

    def __init__(self, label: str, model: CheckpointModel, given: _Given) -> None:
        self.label = label
        self.architecture = model.facts.architecture
        self.encoders = {encoder.key: encoder for encoder in model.encoders}
        self.weights: dict[str, dict[str, CanonicalWeight]] = {}
        self.faults: dict[str, str] = {}
        for key, encoder in self.encoders.items():
            self._find_layers(key, encoder)
        self.fingerprints = model.fingerprints() if model.has_fingerprints else {}
        self.given = given
        self.outputs: dict[str, EncoderOutput] = {}
        self.rebuilt: dict[str, EncoderOutput] = {}

    def _find_layers(self, key: str, encoder: CheckpointEncoder) -> None:
        try:
            self.weights[key] = find_layer_weights(encoder.source)
        except CheckpointError as error:  # an unknown quantisation; the token table may still be good
            self.faults[key] = error.message

    def run(self, report: Report) -> None:
        """Have each encoder make something of the vectors given, one encoder in memory at a time."""
        penultimate = takes_penultimate(self.architecture)
        for key in self.given.vectors:
            runs = [vectors[key] for vectors in (self.given.vectors, self.given.rebuilt) if vectors]
            found = run_encoder(self.encoders[key], runs, report, penultimate=penultimate)
            self.outputs[key] = found[0]
            if self.given.rebuilt:
                self.rebuilt[key] = found[1]

    def layer_values(self, key: str) -> int:
        """How many values the layers of one encoder have."""
        return sum(weight.count for weight in self.weights.get(key, {}).values())


def _values_to_run(side: _Side) -> int:
    return sum(map(side.layer_values, side.given.vectors))


def _values_to_compare(a: _Side, b: _Side) -> int:
    return sum(a.encoders[key].vocabulary_size * a.encoders[key].width + a.layer_values(key) for key in _shared(a, b))


def _shared(a: _Side, b: _Side) -> list[str]:
    """The text encoders that both have."""
    return [key for key in a.encoders if key in b.encoders]


def _missing(one: _Side, other: _Side) -> tuple[str, ...]:
    """The text encoders of one that the other lacks."""
    return tuple(key for key in one.encoders if key not in other.encoders)


def _given(models: Sequence[CheckpointModel], request: CompareRequest) -> list[_Given]:
    if request.source is not None:
        typed = read_typed(request.source)
        source, note = typed.parsed, " ".join(typed.all_remarks)
        return [_Given(evaluate(source, model), note=note) for model in models]
    if request.embedding is not None:
        embedding = load_embedding(request.embedding)
        if embedding.count > MAX_VECTORS:
            message = (
                f"{embedding.name} has {embedding.count} vectors; a text encoder reads at most {MAX_VECTORS} at a time."
            )
            raise StorageError(message)
        return [_given_embedding(embedding, model) for model in models]
    return [_Given() for _ in models]


def _given_embedding(embedding: Embedding, model: CheckpointModel) -> _Given:
    if other := fit_by_architecture(embedding, model):
        return _Given(note=f"{model.facts.file_name}: the embedding does not fit. {other.detail}")
    tag = embedding.tag
    if tag is None or not tag.recipe:
        return _Given(embedding.vectors)
    try:
        fresh = run_recipe(tag.recipe, tag.uses, model)
    except EmbedMergeError as error:
        return _Given(
            embedding.vectors, note=f"{model.facts.file_name}: its recipe does not work on it. {error.message}"
        )
    return _Given(embedding.vectors, fresh, fit_by_recipe(embedding.vectors, fresh).status == FitStatus.DIFFERS)


def _comparison(a: _Side, b: _Side, request: CompareRequest, report: Report) -> Comparison:
    keys = _shared(a, b)
    tables = {key: _table(a, b, key, request.top, report) for key in keys}
    layers = {key: _layers(a, b, key, report) for key in keys}
    asked = request.source is not None or request.embedding is not None
    has_rebuilt = bool(a.outputs and b.rebuilt)
    return Comparison(
        a=a.label,
        b=b.label,
        token_table=tables,
        text_encoder=layers,
        outputs=_outputs(a, b, b.outputs) if asked else None,
        outputs_rebuilt=_outputs(a, b, b.rebuilt) if has_rebuilt else None,
        needs_rebuild=b.given.differs if has_rebuilt else None,
        warnings=tuple(_find_warnings(a, b, layers)),
        only={"a": _missing(a, b), "b": _missing(b, a)},
    )


def _table(a: _Side, b: _Side, key: str, top: int, report: Report) -> TableDifference:
    one, other = a.encoders[key], b.encoders[key]
    known = [side.fingerprints[key].token_table for side in (a, b) if key in side.fingerprints]
    if len(known) == 2 and known[0] == known[1]:
        report(one.vocabulary_size * one.width)
        return make_equal_table(one)
    return compare_tables(one, other, top, report)


def _layers(a: _Side, b: _Side, key: str, report: Report) -> LayersDifference:
    ours, theirs = a.weights.get(key), b.weights.get(key)
    if ours is None or theirs is None:
        return LayersDifference(equal=None, distance=None)
    known = [side.fingerprints[key].text_encoder for side in (a, b) if key in side.fingerprints]
    if len(known) == 2 and known[0] is not None and known[0] == known[1]:
        report(a.layer_values(key))
        return make_equal_layers(ours)
    return compare_layers(ours, theirs, report)


def _outputs(a: _Side, b: _Side, of_b: Mapping[str, EncoderOutput]) -> Outputs:
    """a's outputs against these of b; none where their UNets are conditioned on other layers."""
    if takes_penultimate(a.architecture) != takes_penultimate(b.architecture):
        return {}
    return {key: compare_outputs(output, of_b[key]) for key, output in a.outputs.items() if key in of_b}


def _find_warnings(a: _Side, b: _Side, layers: Mapping[str, LayersDifference]) -> Iterator[str]:
    # Why a recipe cannot be run on the first of the two does not matter: there its vectors are taken as they are.
    given = (side.given.note for side in (a, b) if side.given.note and (side is b or not side.outputs))
    yield from dict.fromkeys(given)
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
