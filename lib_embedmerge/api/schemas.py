"""What requests hold and what answers look like, for checking the ones and documenting the others in /docs.

Written for pydantic 1 and 2 alike. Answers are not checked against these models: they are the command line's own JSON.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import VERSION, BaseModel, Field, StrictBool, StrictStr

from lib_embedmerge.core.groupings import Grouping
from lib_embedmerge.lang.choices import Attention, ReadAs

EMBEDDING = "An embedding: its name as in prompts, or its path in the embeddings folder."
CHECKPOINT = "A checkpoint: its title, its path, its file name, or that without the ending."

_ATTENTION = (
    "What becomes of a prompt's attention brackets, escapes and LoRA tags: `drop` reads them as a web UI does and "
    "removes them, `scale` writes attention as multiplication, `keep` takes every character as it is."
)
_READ_AS = (
    "`auto` tells an expression from a prompt by how it begins, and refuses a prompt that looks like an expression; "
    "`prompt` and `expression` insist."
)

Figures = dict[str, float | None]


def _sized(default: object, description: str, least: int, most: int | None = None) -> Any:
    """A field for a list of so many; pydantic 1 and 2 call its bounds by other names."""
    names = ("min_items", "max_items") if VERSION.startswith("1.") else ("min_length", "max_length")
    bounds: dict[str, Any] = dict(zip(names, (least, most), strict=True))
    return Field(default, description=description, **bounds)


class ParseRequest(BaseModel, extra="forbid"):
    source: StrictStr = Field(..., description="An expression or a prompt.")
    by: Grouping = Field("parts", description="How it is taken apart.")
    attention: Attention = Field("drop", description=_ATTENTION)
    read_as: ReadAs = Field("auto", description=_READ_AS)


class BuildRequest(BaseModel, extra="forbid"):
    source: StrictStr = Field(..., description="An expression or a prompt.")
    attention: Attention = Field("drop", description=_ATTENTION)
    read_as: ReadAs = Field("auto", description=_READ_AS)
    name: StrictStr = Field(..., description="What the embedding is called, in prompts and as a file.")
    notes: StrictStr = Field("", description="Free text for its tag.")
    negative: StrictBool = Field(default=False, description="Whether it is meant for negative prompts.")
    dtype: Literal["float32", "float16"] = "float32"
    follow: StrictBool = Field(
        default=False, description="Use what the recipes of embeddings in the source give on the model."
    )
    split: StrictBool = Field(default=False, description="Make several, numbered, where one cannot hold it all.")
    overwrite: StrictBool = Field(default=False, description="Replace an embedding of that name.")


class RebuildRequest(BaseModel, extra="forbid"):
    embeddings: Literal["all"] | list[StrictStr] = Field(..., description=f"`all`, or a list. {EMBEDDING}")
    checkpoints: list[StrictStr] = _sized(..., CHECKPOINT, 1)


class RecoverRequest(BaseModel, extra="forbid"):
    embedding: StrictStr = Field(..., description=EMBEDDING)
    checkpoints: list[StrictStr] | None = _sized(None, f"None for the active model. {CHECKPOINT}", 1)


class CompareRequest(BaseModel, extra="forbid"):
    checkpoints: list[StrictStr] = _sized(..., f"Two to ten, as each pair takes seconds. {CHECKPOINT}", 2, 10)
    source: StrictStr | None = Field(None, description="A text: how far apart the encoders' outputs for it are.")
    embedding: StrictStr | None = Field(None, description=f"The same for an embedding. {EMBEDDING}")


class Fault(BaseModel):
    message: str
    start: int | None = Field(None, description="Where in the source, as an offset in characters.")
    end: int | None = None
    expected: str | None = None
    hint: str | None = None


class FaultAnswer(BaseModel):
    error: Fault


class Part(BaseModel):
    kind: str
    text: str
    ids: list[int | None] = Field(..., description="CLIP's token ids; none for vectors that are no tokens.")
    vectors: int
    first: int


class ParseAnswer(BaseModel):
    kind: str
    source: str = Field(..., description="What is built: the text as typed, or as it was rewritten.")
    meant: str | None = Field(
        None, description="The source that a prompt looks like, where it looks like an expression."
    )
    canonical: str | None = Field(None, description="The expression in its usual spelling; none for a prompt.")
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
    source: str = Field(..., description="What was built, which is the recipe.")
    calls: dict[str, str] = Field(..., description="Program -> how a prompt calls the embedding there.")
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
    rows: list[dict[str, Any]] = Field(..., description="For each vector its figures, and its nearest tokens.")


class ShowAnswer(BaseModel):
    name: str
    architecture: str
    vectors: int
    encoders: dict[str, ShownEncoder]
    metadata: dict[str, str]
    fit: Fit | None = None
    notes: list[str]
    facts: dict[str, str] = Field({}, description="What the file says beside its vectors, such as step.")
    suggested_name: str | None = Field(None, description="A name made of the token that it calls itself by.")


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
    reason: str | None = Field(None, description="Why it cannot be used, or is not found in prompts.")


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
    done: int = Field(..., description="Pairs of an embedding and a checkpoint.")
    total: int
    seconds_left: float | None = None
    counts: dict[str, int] = Field(..., description="Status -> how many results have it.")
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
    close: bool = Field(..., description="Whether the expression has to do with the vectors at all.")
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
