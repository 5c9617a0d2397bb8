"""The fields of the answers that programs read: the JSON of the command line, which is also that of the HTTP API.

One home for their names, types and descriptions: what makes answers is checked against these types, tables read them,
and the API's schemas are made of them. A text after a type, `Annotated[str, "..."]`, describes the field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from lib_embedmerge.core.effect_answers import EffectAnswer
from lib_embedmerge.errors import ErrorAnswer

Figures = dict[str, float | None]
"""Text encoder or name of a figure -> the figure, None if it is not finite."""


class PartAnswer(TypedDict):
    """Neighbouring vectors of a source, taken together."""

    kind: str
    text: str
    ids: Annotated[list[int | None], "CLIP's token ids; null for vectors that are not tokens."]
    vectors: int
    first: int


class ParseAnswer(TypedDict):
    """How a text is read."""

    kind: str
    source: Annotated[str, "The text that is built: as typed, or as rewritten."]
    meant: Annotated[str | None, "The expression that was probably meant, if a prompt looks like one."]
    canonical: Annotated[str | None, "The expression in its usual spelling; null for a prompt."]
    vectors: int
    by: str
    parts: list[PartAnswer]
    warnings: list[str]


class EncoderLength(TypedDict):
    """The vectors of one text encoder."""

    width: int
    mean_length: float | None


class BuildAnswer(TypedDict):
    """An embedding that was built and saved."""

    file: str
    name: str
    kind: Annotated[str, "How the source was read: `expression` or `prompt`."]
    source: Annotated[str | None, "The text that was built. It is the recipe."]
    vectors: int
    calls: Annotated[dict[str, str], "Program -> how to write the embedding in a prompt there."]
    encoders: dict[str, EncoderLength]
    tag: dict[str, str]
    warnings: list[str]


class DistanceAnswer(TypedDict):
    """How far stored vectors are from those of the recipe."""

    relative_l2: float | None
    cosine: float | None


class FitAnswer(TypedDict):
    """How an embedding fits a model."""

    status: str
    detail: str
    advice: str
    distances: dict[str, DistanceAnswer]
    layers_differ: list[str] | None
    rows: int | None
    text: str | None


class ShownEncoder(TypedDict):
    """The vectors of one text encoder, one by one."""

    width: int
    rows: Annotated[list[dict[str, Any]], "For each vector its statistics and its nearest tokens."]


class ShowAnswer(TypedDict):
    """An embedding."""

    name: str
    architecture: str
    vectors: int
    encoders: dict[str, ShownEncoder]
    metadata: dict[str, str]
    fit: FitAnswer | None
    notes_by_model: Annotated[dict[str, ModelNoteAnswer], "Model -> what the user noted about it there."]
    sidecar: Annotated[SidecarAnswer | None, "What other tools' files beside it say."]
    notes: list[str]
    facts: Annotated[dict[str, str], "Other data in the file, such as the training step."]
    suggested_name: Annotated[str | None, "A name made from the token that is stored in the file."]


class ModelNoteAnswer(TypedDict):
    """What a user noted about an embedding on one model."""

    rating: Annotated[int | None, "1 (bad) to 5 (good)."]
    weight: Annotated[float | None, "A weight in prompts that worked."]
    text: str
    hash: Annotated[str | None, "SHA-256 of the checkpoint's file, if it was known."]


class SidecarAnswer(TypedDict):
    """What files of other tools beside an embedding say of it."""

    base_model: Annotated[str | None, "The model, or the kind of model, that it was made for."]
    trigger_words: list[str]
    weight: Annotated[float | None, "The weight that is preferred in prompts."]
    notes: str | None
    address: Annotated[str | None, "The address of the page that it comes from."]
    files: Annotated[list[str], "The names of these files."]


class ListedEmbedding(TypedDict):
    """One file of a list of embeddings."""

    name: str
    file: str
    vectors: int | None
    architecture: str | None
    made_for: str | None
    recipe: str | None
    notes: str | None
    notes_by_model: Annotated[dict[str, ModelNoteAnswer], "Model -> what the user noted about it there."]
    sidecar: Annotated[SidecarAnswer | None, "What other tools' files beside it say."]
    date: str | None
    fit: FitAnswer | None
    reason: Annotated[str | None, "Why it cannot be used, or does not work in prompts."]


class GroupedEmbedding(ListedEmbedding):
    """The same, with the token table that it must come from."""

    group: Annotated[int | None, "Files with the same number come from the same token table; null for a file alone."]
    warnings: list[str]


class RebuildAnswer(TypedDict):
    """What became of one embedding for one checkpoint."""

    source: str
    checkpoint: str
    file: str | None
    status: str
    reason: str | None


class JobAnswer(TypedDict):
    """A rebuild that was started."""

    job: str


class JobStateAnswer(TypedDict):
    """The progress of a rebuild."""

    state: Literal["running", "done", "cancelled", "failed"]
    done: Annotated[int, "Finished pairs of an embedding and a checkpoint."]
    total: int
    seconds_left: float | None
    counts: Annotated[dict[str, int], "Status -> number of results."]
    results: list[RebuildAnswer]
    error: ErrorAnswer | None


class TokenDistanceAnswer(TypedDict):
    """A token whose vectors differ."""

    id: int
    token: str
    distance: float | None


class TableAnswer(TypedDict):
    """The difference between two token tables."""

    equal: bool
    rows: int
    rows_differing: int
    max_distance: float | None
    top: list[TokenDistanceAnswer]


class LayerAnswer(TypedDict):
    """The difference of one layer."""

    name: str
    distance: float | None


class LayersAnswer(TypedDict):
    """The difference of all layers of a text encoder."""

    equal: bool | None
    distance: float | None
    layers: list[LayerAnswer]


class CompareAnswer(TypedDict):
    """The difference between two checkpoints."""

    a: str
    b: str
    token_table: dict[str, TableAnswer]
    text_encoder: dict[str, LayersAnswer]
    outputs: dict[str, Figures] | None
    outputs_rebuilt: dict[str, Figures] | None
    needs_rebuild: bool | None
    effect: Annotated[EffectAnswer | None, "How differently the text or embedding acts; null if it was not measured."]
    only_a: Annotated[list[str], "The text encoders that only a has."]
    only_b: Annotated[list[str], "The text encoders that only b has."]
    notes: list[str]
    verdict: str


class ConvertedEncoder(TypedDict):
    """The vectors of one text encoder in a converted file."""

    width: int
    vectors: int
    dtype: str


class ConvertAnswer(TypedDict):
    """An embedding that was converted."""

    file: str
    name: str
    sources: list[str]
    form: str
    architecture: str
    vectors: int
    encoders: dict[str, ConvertedEncoder]
    tag: dict[str, str]
    warnings: list[str]


class EncoderAnswer(TypedDict):
    """A text encoder of a checkpoint."""

    width: int
    vocabulary_size: int
    mean_length: float | None
    token_table: str
    text_encoder: str | None


class InfoAnswer(TypedDict):
    """A checkpoint."""

    title: str
    file: str
    layout: str
    architecture: str
    variant: str
    prediction_type: str | None
    zero_terminal_snr: bool
    text_encoder_files: list[str]
    encoders: dict[str, EncoderAnswer]
    warnings: list[str]


class ServeAnswer(TypedDict):
    """The page of its own."""

    url: str
    checkpoint: str | None
    embeddings: str


class DemoAnswer(TypedDict):
    """What the demo made."""

    checkpoint: str
    source: str
    build: BuildAnswer
    show: ShowAnswer
