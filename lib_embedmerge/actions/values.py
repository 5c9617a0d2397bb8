"""What the actions give: values for faces to draw, and for scripts. All frozen; no markup, no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lib_embedmerge.core.groupings import Grouping
    from lib_embedmerge.core.parts import Part
    from lib_embedmerge.core.ports import NearestToken
    from lib_embedmerge.core.statistics import LengthBand, VectorStatistics
    from lib_embedmerge.embeddings.tag import ModelTag
    from lib_embedmerge.errors import EmbedMergeError
    from lib_embedmerge.lang.choices import Attention, ReadAs
    from lib_embedmerge.lang.lookalikes import LikelyMeaning
    from lib_embedmerge.recipes.fit import Fit


@dataclass(frozen=True)
class Status:
    """The active model in words. error: why there is none; all else is empty then.

    title: the model's.  family: architecture, with the variant where it is not the base: `SDXL`, `SDXL inpainting`.
    prediction: `epsilon`, `v`, `v, zero terminal SNR`, or empty.  encoders: `CLIP-L 768`, ...
    vectors_from, warnings: as in hosts.port.ActiveModel; the model's own warnings are among the warnings.
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
    """How a text that is typed is read. attention: what becomes of attention in a prompt (lang/typed.py).
    follow: whether embeddings that it names are made again from their recipes on the model."""

    attention: Attention = "drop"
    follow: bool = False


@dataclass(frozen=True)
class Answer:
    """How a source is read.

    count: its vectors; of a prompt with a mistake those of the rest, of an expression with a mistake 0.
    limit: vectors that one embedding holds.  by, parts: the grouping and its parts; of a prompt with a mistake
        those of the rest. By comma, the commas are in no part.
    error: the first mistake.  warnings: what a person should know, one sentence each.
    rewritten: the source that is built, where it is another text than what was typed; else None.
    meant: what a prompt looks like, where it looks like an expression; else None.
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
    """Some neighbouring vectors of one text encoder taken together."""

    part: Part
    figures: VectorStatistics


@dataclass(frozen=True)
class VectorFigures:
    """One vector of one text encoder.

    number: from 1.  part: place of its part in EncoderFigures.parts, of a comma between parts that of the one before.
    token: of whose row it is, `cat</w>`, else None.
    finite: False where a value is NaN or infinite.  length_is_usual: False where it is no token's and its length is
        outside the band of the model's own tokens, None where there is no band.
    nearest: closest tokens, best first.  strip: its values in order, neighbours drawn together to the one of largest
        magnitude, as shares of EncoderFigures.scale, not cut to -1..1; NaN and infinity as they are.
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
    """What the vectors of one text encoder look like.

    key, title: `clip_l`, `CLIP-L`.  band: lengths of the model's own tokens, None without a model.
    scale: a large value for one number of such a vector; what strips are drawn against.
    hidden: vectors beyond those listed.
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
class NameReport:
    """What is to say of a name. error: why no file can be called that.  warnings: why prompts might not find it.
    better: a name without fault, None where this one has none.  file: which one saving would replace, by its place
    in the embeddings folder; empty for none."""

    name: str
    error: str | None = None
    warnings: tuple[str, ...] = ()
    better: str | None = None
    file: str = ""


@dataclass(frozen=True)
class SaveRequest:
    """What to save. dtype: `float32` or `float16`.  split: into several where one embedding is too short.
    overwrite: replace whatever files have these names.  agreed: names whose files may be replaced without that.
    attention, read_as: how the source is read (lang/typed.py).  follow: whether embeddings that it names are made
    again from their recipes on the model.  insist: build it also where it is a prompt that looks
    like an expression.  known_names: embeddings outside the library that the same prompts will find."""

    source: str
    name: str
    notes: str = ""
    negative: bool = False
    dtype: str = "float32"
    split: bool = False
    overwrite: bool = False
    agreed: frozenset[str] = frozenset()
    attention: Attention = "drop"
    read_as: ReadAs = "auto"
    follow: bool = False
    insist: bool = False
    known_names: frozenset[str] = frozenset()

    def may_replace(self, name: str) -> bool:
        """Whether a file of this name may be replaced."""
        return self.overwrite or name in self.agreed


@dataclass(frozen=True)
class SavedFile:
    """A file that was written.

    vectors: for each text encoder.  tag: its metadata.  source: what was built, which is the recipe.
    encoders: encoder key -> the width of its vectors and their mean L2 length, None if that is not finite.
    warnings: what a person should know about this embedding, one sentence each.
    """

    name: str
    path: Path
    vectors: int
    tag: Mapping[str, str]
    source: str | None = None
    encoders: Mapping[str, tuple[int, float | None]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Saved:
    """What saving did. files: what was written.  existing: name -> file that stands in the way, by its place in the
    embeddings folder; if there are any, nothing was written.
    prompt: the names as they are called in a prompt.  inline: the source as it is written into a prompt.
    warnings: what a person should know, one sentence each.  kind: as what the source was read."""

    files: tuple[SavedFile, ...] = ()
    existing: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    inline: str = ""
    warnings: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Inspection:
    """An embedding looked at. path: None for a file that was dropped in.  fit: None where there is no model to compare
    with; fit_error says why.  recipe: its own, or the text recovered from its rows; None where there is neither.
    facts: what the file says beside its vectors."""

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
