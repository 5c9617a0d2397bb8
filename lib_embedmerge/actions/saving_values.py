"""What is to be saved, and what was: frozen values without markup or tensors. values.py has those of other actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from lib_embedmerge.lang.choices import Attention, ReadAs


@dataclass(frozen=True)
class NameReport:
    """Whether a name can be used. error: why no file can have it.  warnings: why prompts may not find it.

    better: a name without these problems, None if this one has none.
    file: the file that saving would replace, relative to the embeddings folder; empty for none.
    """

    name: str
    error: str | None = None
    warnings: tuple[str, ...] = ()
    better: str | None = None
    file: str = ""


@dataclass(frozen=True)
class SaveRequest:
    """What to build and save. dtype: `float32` or `float16`.  split: whether to make several if one is too short.

    overwrite: whether to replace all existing files of these names.  agreed: names whose files may be replaced anyway.
    attention, read_as: how the source is read (lang/typed.py).  follow: whether embeddings that it names are rebuilt
    from their recipes on the model.  insist: whether to build a prompt even if it looks like an expression.
    known_names: embeddings outside the library that the same prompts will find.
    only_own_file: whether only the file `NAME.safetensors` in the embeddings folder itself is in the way and may be
    replaced, and not an embedding of that name elsewhere in the library; it is looked for before the work.
    """

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
    only_own_file: bool = False

    def may_replace(self, name: str) -> bool:
        """Whether a file of this name may be replaced."""
        return self.overwrite or name in self.agreed


@dataclass(frozen=True)
class SavedFile:
    """A file that was written.

    vectors: number for each text encoder.  tag: its metadata.  source: the source that was built, which is the recipe.
    encoders: encoder key -> the width of its vectors and their mean L2 length, None if that is not finite.
    warnings: about this embedding, one sentence each.
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
    """The result of saving. files: the files that were written.

    existing: name -> existing file that may not be replaced, relative to the embeddings folder. If there are any,
    nothing was written.
    prompt: the names as a prompt calls them.  inline: the source as it is written into a prompt.
    warnings: one sentence each.  kind: `expression` or `prompt`.
    """

    files: tuple[SavedFile, ...] = ()
    existing: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    inline: str = ""
    warnings: tuple[str, ...] = ()
    kind: str = ""
