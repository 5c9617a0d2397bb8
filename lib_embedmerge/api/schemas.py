"""Models of requests, which are checked against them, and of answers, which are only described in /docs.

They work with pydantic 1 and 2. Answers are not checked: they are the JSON of the command line.
"""

from __future__ import annotations

import functools
import operator
import types
import typing
from typing import TYPE_CHECKING, Any, Literal

from pydantic import VERSION, BaseModel, Field, StrictBool, StrictStr, conint, create_model

from lib_embedmerge.core.answers import (
    BuildAnswer,
    CompareAnswer,
    ErrorAnswer,
    JobAnswer,
    JobStateAnswer,
    ListedEmbedding,
    ParseAnswer,
    ShowAnswer,
)
from lib_embedmerge.core.groupings import Grouping
from lib_embedmerge.core.recovery_answers import LibraryJobAnswer, RecoverAnswer
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


@functools.cache
def make_schema(answer: type) -> type[BaseModel]:
    """The schema of an answer: a model with the fields, types and descriptions of a TypedDict in core.answers."""
    hints = typing.get_type_hints(answer, include_extras=True)
    fields: dict[str, Any] = {name: _make_field(hint) for name, hint in hints.items()}
    return create_model(answer.__name__, **fields)


def _make_field(hint: Any) -> tuple[Any, Any]:
    """The type and the default of a field. A field that can be null may be omitted."""
    described = typing.get_origin(hint) is typing.Annotated
    kind, description = (hint.__origin__, hint.__metadata__[0]) if described else (hint, None)
    default = None if type(None) in typing.get_args(kind) else ...
    return _convert_type(kind), Field(default, description=description)


def _convert_type(hint: Any) -> Any:
    """A type in which models replace TypedDicts."""
    if typing.is_typeddict(hint):
        return make_schema(hint)
    arguments = tuple(map(_convert_type, typing.get_args(hint)))
    origin = typing.get_origin(hint)
    if origin in {list, dict}:
        return origin[arguments]
    if origin is types.UnionType:
        return functools.reduce(operator.or_, arguments)
    return hint


def _make_list_field(default: object, description: str, least: int, most: int | None = None) -> Any:
    """A field for a list of `least` to `most` items. pydantic 1 and 2 have different names for these bounds."""
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
    checkpoints: list[StrictStr] = _make_list_field(..., CHECKPOINT, 1)


class RecoverRequest(BaseModel, extra="forbid"):
    embedding: StrictStr = Field(..., description=EMBEDDING)
    checkpoints: list[StrictStr] | None = _make_list_field(None, f"Leave it out for the active model. {CHECKPOINT}", 1)
    background: StrictBool = Field(
        default=False, description="Answer at once with the id of a job, whose one result is the recovery."
    )


class ConvertRequest(BaseModel, extra="forbid"):
    embeddings: list[StrictStr] = _make_list_field(..., EMBEDDING, 1)
    to: Literal["sdxl", "sd1", "sd2"] = Field(..., description="The architecture to make them for.")
    checkpoint: StrictStr = Field(..., description=f"The model to make them for. {CHECKPOINT}")
    named_by: StrictStr | None = Field(
        None,
        description="A model of their own architecture. It is needed if the other one has none of their text encoders.",
    )
    only_shared: StrictBool = Field(
        default=False, description="Vectors that are not text become zero in the other text encoder."
    )
    overwrite: StrictBool = Field(default=False, description="Replace existing files of these names.")


class RestoreLibraryRequest(BaseModel, extra="forbid"):
    embeddings: Literal["all"] | list[StrictStr] = Field(..., description=f"`all`, or a list. {EMBEDDING}")
    checkpoints: list[StrictStr] = _make_list_field(..., CHECKPOINT, 1)
    dry_run: StrictBool = Field(default=True, description="Write nothing, and answer what would be written.")
    only_sure: StrictBool = Field(default=False, description="Skip embeddings in which some words are not certain.")


class CompareRequest(BaseModel, extra="forbid"):
    checkpoints: list[StrictStr] = _make_list_field(
        ..., f"Two to ten, because each pair takes seconds. {CHECKPOINT}", 2, 10
    )
    source: StrictStr | None = Field(
        None, description="A text for which the outputs of the text encoders are compared."
    )
    embedding: StrictStr | None = Field(None, description=f"An embedding for which they are compared. {EMBEDDING}")


if TYPE_CHECKING:
    Layers = int
    Vectors = int
    Seed = int
else:  # pydantic 1 takes no bounds for a StrictInt
    Layers, Vectors = conint(strict=True, ge=1, le=100), conint(strict=True, ge=1, le=75)
    Seed = conint(strict=True, ge=0, le=1_000_000)

_CLIP_SKIP: Any = Field(
    None, description="1 is the last layer of a text encoder; leave it out for the architecture's own."
)


class MeasureEffectRequest(BaseModel, extra="forbid"):
    checkpoints: list[StrictStr] = _make_list_field(
        ..., f"Two to twenty; the first one is compared with each of the others. {CHECKPOINT}", 2, 20
    )
    source: StrictStr | None = Field(None, description="A text; each checkpoint gives its own vectors for it.")
    embedding: StrictStr | None = Field(None, description=f"An embedding instead, the same on each. {EMBEDDING}")
    remake: StrictBool = Field(default=False, description="Make the embedding's recipe again on each checkpoint.")
    clip_skip: Layers | None = _CLIP_SKIP


class MeasureGroupsRequest(BaseModel, extra="forbid"):
    checkpoints: list[StrictStr] = _make_list_field(..., f"At most 50. {CHECKPOINT}", 1, 50)
    embeddings: list[StrictStr] = _make_list_field([], f"Embeddings to group them by. {EMBEDDING}", 0, 100)
    words: list[StrictStr] = _make_list_field(
        [], "Texts to group them by; without embeddings and words, twelve common words are taken.", 0, 100
    )
    by: Literal["models", "vectors"] = Field(
        "models", description="How two models read a text, or what changes on each with the vectors of the other."
    )
    limit: float = Field(
        0.1, ge=0, le=1000, description="The largest effect within a group: 0.1 is 10 percent of another subject."
    )
    clip_skip: Layers | None = _CLIP_SKIP


class WeighTokensRequest(BaseModel, extra="forbid"):
    source: StrictStr = Field(..., description="An expression or a prompt.")
    checkpoint: StrictStr = Field(..., description=CHECKPOINT)
    clip_skip: Layers | None = _CLIP_SKIP


class ShortenRequest(BaseModel, extra="forbid"):
    source: StrictStr = Field(..., description="A prompt.")
    checkpoint: StrictStr = Field(..., description=CHECKPOINT)
    vectors: Vectors = Field(75, description="How many vectors fit.")
    clip_skip: Layers | None = _CLIP_SKIP


_NAME: Any = Field(None, description="The name of the new embedding; for an embedding it can be left out.")
_OVERWRITE: Any = Field(default=False, description="Replace an existing embedding of that name.")


class CompressVectorsRequest(BaseModel, extra="forbid"):
    source: StrictStr | None = Field(None, description="A text of any length.")
    embedding: StrictStr | None = Field(None, description=f"An embedding instead. {EMBEDDING}")
    vectors: Vectors = Field(..., description="How many vectors to make.")
    checkpoint: StrictStr = Field(..., description=f"The model to make them for. {CHECKPOINT}")
    name: StrictStr | None = _NAME
    seed: Seed = Field(0, description="Of the random queries.")
    overwrite: StrictBool = _OVERWRITE


class PortVectorsRequest(BaseModel, extra="forbid"):
    embedding: StrictStr = Field(..., description=EMBEDDING)
    made_for: StrictStr = Field(..., description=f"The model that it was made for. {CHECKPOINT}")
    to: StrictStr = Field(..., description=f"The model to carry it to. {CHECKPOINT}")
    name: StrictStr | None = _NAME
    overwrite: StrictBool = _OVERWRITE


class RepairVectorsRequest(BaseModel, extra="forbid"):
    embedding: StrictStr = Field(..., description=EMBEDDING)
    checkpoint: StrictStr = Field(..., description=f"The model that it is used with. {CHECKPOINT}")
    name: StrictStr | None = _NAME
    overwrite: StrictBool = _OVERWRITE


FaultResponse: Any = create_model("FaultAnswer", error=(make_schema(ErrorAnswer), ...))
ParseResponse: Any = make_schema(ParseAnswer)
BuildResponse: Any = make_schema(BuildAnswer)
ShowResponse: Any = make_schema(ShowAnswer)
ListedResponse: Any = make_schema(ListedEmbedding)
JobResponse: Any = make_schema(JobAnswer)
JobStateResponse: Any = make_schema(JobStateAnswer)
RecoverResponse: Any = make_schema(RecoverAnswer)
CompareResponse: Any = make_schema(CompareAnswer)
LibraryJobResponse: Any = make_schema(LibraryJobAnswer)
