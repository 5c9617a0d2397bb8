"""The results of actions, for faces to draw and for scripts: frozen values without markup or tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lib_embedmerge.core.groupings import Grouping
    from lib_embedmerge.core.parts import Part
    from lib_embedmerge.core.ports import ModelFacts, NearestToken
    from lib_embedmerge.core.statistics import LengthBand, VectorStatistics
    from lib_embedmerge.embeddings.sidecars import SidecarFacts
    from lib_embedmerge.embeddings.tag import ModelTag
    from lib_embedmerge.errors import EmbedMergeError
    from lib_embedmerge.lang.choices import Attention
    from lib_embedmerge.lang.lookalikes import LikelyMeaning
    from lib_embedmerge.recipes.doctor import Flaw
    from lib_embedmerge.recipes.fit import Fit


@dataclass(frozen=True)
class Status:
    """The active model in words. error: why there is none; all other fields but the warnings are empty then.

    title: of the model.  family: architecture, and the variant unless it is the base: `SDXL`, `SDXL inpainting`.
    prediction: `epsilon`, `v`, `v, zero terminal SNR`, or empty.  encoders: `CLIP-L 768`, ...
    vectors_from, warnings: as in hosts.port.ActiveModel; the warnings include those of the model itself, and what
        does not work in this web UI.
    """

    title: str = ""
    family: str = ""
    prediction: str = ""
    encoders: tuple[str, ...] = ()
    vectors_from: str = ""
    warnings: tuple[str, ...] = ()
    error: EmbedMergeError | None = None


@dataclass(frozen=True)
class ReadingOptions:
    """How a typed text is read. attention: how attention in a prompt is read (lang/typed.py).

    follow: whether embeddings that it names are rebuilt from their recipes on the model.
    """

    attention: Attention = "drop"
    follow: bool = False


@dataclass(frozen=True)
class Answer:
    """How a source is read.

    count: number of vectors. For a prompt with a mistake that of its other parts, for an expression with a mistake 0.
    limit: number of vectors that one embedding can hold.
    by, parts: the grouping and its parts, without those that have a mistake. By comma, the commas are in no part.
    error: the first mistake.  warnings: one sentence each.
    rewritten: the source that is built, or None if it is the typed text.
    meant: the expression that a prompt looks like, or None.
    """

    source: str
    kind: Literal["nothing", "expression", "prompt"]
    count: int
    limit: int
    by: Grouping
    parts: tuple[Part, ...] = ()
    error: EmbedMergeError | None = None
    warnings: tuple[str, ...] = ()
    rewritten: str | None = None
    meant: LikelyMeaning | None = None


@dataclass(frozen=True)
class PartFigures:
    """The figures of a part's vectors in one text encoder."""

    part: Part
    figures: VectorStatistics


@dataclass(frozen=True)
class VectorFigures:
    """One vector of one text encoder.

    number: from 1.  part: index of its part in EncoderFigures.parts; for a comma between parts, of the part before it.
    token: the token that has this vector, as in the vocabulary, `cat</w>`; None if no token has it.
    finite: False if a value is NaN or infinite.  length_is_usual: False if it is not a token's and its length is
        far outside the band of the model's tokens, None if there is no band.
    nearest: nearest tokens, best first.  strip: its values in order, of each run of neighbours the one of largest
        magnitude, divided by EncoderFigures.scale; may be outside -1..1, NaN or infinite.
    """

    number: int
    part: int
    token: str | None
    figures: VectorStatistics
    finite: bool
    length_is_usual: bool | None
    nearest: tuple[NearestToken, ...]
    strip: tuple[float, ...]


@dataclass(frozen=True)
class EncoderFigures:
    """The figures of the vectors of one text encoder.

    key, title: `clip_l`, `CLIP-L`.  band: usual lengths of the model's tokens, None without a model.
    scale: a large value for a number in such a vector; strips are divided by it.
    hidden: number of vectors that are not listed.
    """

    key: str
    title: str
    width: int
    band: LengthBand | None
    scale: float
    parts: tuple[PartFigures, ...]
    vectors: tuple[VectorFigures, ...]
    hidden: int = 0


@dataclass(frozen=True)
class Inspection:
    """All about an embedding. path: None for a dropped file.  fit: None if it is unknown; fit_error says why.

    recipe: its own, or the text that was recovered from its vectors; None if there is neither.
    facts: other contents of the file.  flaws: what is wrong with its vectors, compared with the active model's.
    fixed_name: of a copy without the flaws; empty if none can be fixed.
    place: its path in the library; empty for a dropped file.  model: the active model; None if there is none.
    sidecar: what files of other tools beside it say; None if they say nothing.
    """

    name: str
    file_name: str
    path: Path | None
    architecture: str
    count: int
    tag: ModelTag | None
    metadata: Mapping[str, str]
    fit: Fit | None
    fit_error: EmbedMergeError | None
    recipe: str | None
    warnings: tuple[str, ...]
    encoders: tuple[EncoderFigures, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    flaws: tuple[Flaw, ...] = ()
    fixed_name: str = ""
    place: str = ""
    model: ModelFacts | None = None
    sidecar: SidecarFacts | None = None
