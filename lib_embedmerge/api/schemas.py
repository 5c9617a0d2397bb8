"""What requests hold and what answers look like, for checking the ones and documenting the others in /docs.

Written for pydantic 1 and 2 alike. Answers are not checked against these models: they are the command line's own JSON.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import VERSION, BaseModel, Field, StrictBool, StrictStr

from lib_embedmerge.core.groupings import Grouping
from lib_embedmerge.lang.choices import Attention, ReadAs

EMBEDDING = "An embedding, by its name as in prompts or its path in the embeddings folder."
CHECKPOINT = "A checkpoint, by its title, its path, or its file name with or without its ending."

_ATTENTION = (
    "How to treat attention brackets, escapes and LoRA tags in a prompt: `drop` reads them as a web UI does and "
    "removes them, `scale` replaces attention by multiplication, `keep` keeps every character as it is."
)
_READ_AS = (
    "`auto` recognises an expression by how it begins, and refuses a prompt that looks like an expression; "
    "`prompt` and `expression` read the text as that in any case."
)

Figures = dict[str, float | None]


def _sized(default: object, description: str, least: int, most: int | None = None) -> Any:
    """A field for a list of so many; pydantic 1 and 2 call its bounds by other names."""
    names = ("min_items", "max_items") if VERSION.startswith("1.") else ("min_length", "max_length")
    bounds: dict[str, Any] = dict(zip(names, (least, most), strict=True))
    return Field(default, description=description, **bounds)


class ParseRequest(BaseModel, extra="forbid"):
    source: StrictStr = Field(..., description="An expression or a prompt.")
    by: Grouping = Field("parts", description="What to group the tokens by.")
    attention: Attention = Field("drop", description=_ATTENTION)
    read_as: ReadAs = Field("auto", description=_READ_AS)


class BuildRequest(BaseModel, extra="forbid"):
    source: StrictStr = Field(..., description="An expression or a prompt.")
    attention: Attention = Field("drop", description=_ATTENTION)
    read_as: ReadAs = Field("auto", description=_READ_AS)
    name: StrictStr = Field(..., description="The name of the embedding, in prompts and as a file.")
    notes: StrictStr = Field("", description="Notes to save in the file.")
    negative: StrictBool = Field(default=False, description="Whether the embedding is meant for negative prompts.")
    dtype: Literal["float32", "float16"] = "float32"
    follow: StrictBool = Field(
        default=False, description="For embeddings in the source, use their recipes instead of their saved vectors."
    )
    split: StrictBool = Field(
        default=False, description="Make several numbered embeddings if one cannot hold all vectors."
    )
    overwrite: StrictBool = Field(default=False, description="Replace an existing embedding of that name.")


class RebuildRequest(BaseModel, extra="forbid"):
    embeddings: Literal["all"] | list[StrictStr] = Field(..., description=f"`all`, or a list. {EMBEDDING}")
    checkpoints: list[StrictStr] = _sized(..., CHECKPOINT, 1)


class RecoverRequest(BaseModel, extra="forbid"):
    embedding: StrictStr = Field(..., description=EMBEDDING)
    checkpoints: list[StrictStr] | None = _sized(None, f"Leave it out for the active model. {CHECKPOINT}", 1)


class CompareRequest(BaseModel, extra="forbid"):
    checkpoints: list[StrictStr] = _sized(..., f"Two to ten, because each pair takes seconds. {CHECKPOINT}", 2, 10)
    source: StrictStr | None = Field(
        None, description="A text for which the outputs of the text encoders are compared."
    )
    embedding: StrictStr | None = Field(None, description=f"An embedding for which they are compared. {EMBEDDING}")


class Fault(BaseModel):
    message: str
    start: int | None = Field(None, description="Where the mistake starts in the source, in characters.")
    end: int | None = None
    expected: str | None = None
    hint: str | None = None


class FaultAnswer(BaseModel):
    error: Fault


class Part(BaseModel):
    kind: str
    text: str
    ids: list[int | None] = Field(..., description="CLIP's token ids; null for vectors that are not tokens.")
    vectors: int
    first: int


class ParseAnswer(BaseModel):
    kind: str
    source: str = Field(..., description="The text that is built: as typed, or as rewritten.")
    meant: str | None = Field(None, description="The expression that was probably meant, if a prompt looks like one.")
    canonical: str | None = Field(None, description="The expression in its usual spelling; null for a prompt.")
    vectors: int
    by: str
    parts: list[Part]
    warnings: list[str]


class EncoderLength(BaseModel):
    width: int
    mean_length: float | None = None


class BuildAnswer(BaseModel):
    file: str
    name: str
    kind: str = Field(..., description="How the source was read: `expression` or `prompt`.")
    source: str = Field(..., description="The text that was built. It is the recipe.")
    calls: dict[str, str] = Field(..., description="Program -> how to write the embedding in a prompt there.")
    vectors: int
    encoders: dict[str, EncoderLength]
    tag: dict[str, str]
    warnings: list[str]


class Distance(BaseModel):
    relative_l2: float | None = None
    cosine: float | None = None


class Fit(BaseModel):
    status: str
    detail: str
    advice: str
    distances: dict[str, Distance]
    layers_differ: list[str] | None = None
    rows: int | None = None
    text: str | None = None


class ShownEncoder(BaseModel):
    width: int
    rows: list[dict[str, Any]] = Field(..., description="For each vector its statistics and its nearest tokens.")


class ShowAnswer(BaseModel):
    name: str
    architecture: str
    vectors: int
    encoders: dict[str, ShownEncoder]
    metadata: dict[str, str]
    fit: Fit | None = None
    notes: list[str]
    facts: dict[str, str] = Field({}, description="Other data in the file, such as the training step.")
    suggested_name: str | None = Field(None, description="A name made from the token that is stored in the file.")


class ListedEmbedding(BaseModel):
    name: str
    file: str
    vectors: int | None = None
    architecture: str | None = None
    made_for: str | None = None
    recipe: str | None = None
    notes: str | None = None
    date: str | None = None
    fit: Fit | None = None
    reason: str | None = Field(None, description="Why it cannot be used, or does not work in prompts.")


class JobAnswer(BaseModel):
    job: str


class Rebuilt(BaseModel):
    source: str
    checkpoint: str
    file: str | None = None
    status: str
    reason: str | None = None


class JobStateAnswer(BaseModel):
    state: Literal["running", "done", "cancelled", "failed"]
    done: int = Field(..., description="Finished pairs of an embedding and a checkpoint.")
    total: int
    seconds_left: float | None = None
    counts: dict[str, int] = Field(..., description="Status -> number of results.")
    results: list[Rebuilt]
    error: Fault | None = None


class Candidate(BaseModel):
    checkpoint: str
    exact: bool | None = None
    residual: Figures | None = None
    reason: str | None = None


class RecoverAnswer(BaseModel):
    name: str
    expression: str
    exact: bool
    close: bool = Field(..., description="Whether the expression comes close to the vectors.")
    residual: Figures
    checkpoint: str
    texts: list[str]
    weights: list[float]
    detail: str
    ties: list[str]
    candidates: list[Candidate]


class TokenDistance(BaseModel):
    id: int
    token: str
    distance: float | None = None


class TableDifference(BaseModel):
    equal: bool
    rows: int
    rows_differing: int
    max_distance: float | None = None
    top: list[TokenDistance]


class LayerDistance(BaseModel):
    name: str
    distance: float | None = None


class LayersDifference(BaseModel):
    equal: bool | None = None
    distance: float | None = None
    layers: list[LayerDistance]


class CompareAnswer(BaseModel):
    a: str
    b: str
    token_table: dict[str, TableDifference]
    text_encoder: dict[str, LayersDifference]
    outputs: dict[str, Figures] | None = None
    outputs_rebuilt: dict[str, Figures] | None = None
    needs_rebuild: bool | None = None
    only_a: list[str] = Field(..., description="The text encoders that only a has.")
    only_b: list[str] = Field(..., description="The text encoders that only b has.")
    notes: list[str]
    verdict: str
