"""Convert embedding files to safetensors files with metadata. This needs neither a model nor a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.core.answers import ConvertAnswer
from lib_embedmerge.core.endings import SUFFIXES
from lib_embedmerge.embeddings.conversion import Conversion, prepare_conversions
from lib_embedmerge.embeddings.embedding import check_not_existing, read_embedding_header
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.names import check_name
from lib_embedmerge.errors import Remedy, StorageError, quote
from lib_embedmerge.files.safetensors_header import TORCH_NAMES
from lib_embedmerge.tokenizer import clip_tokenizer


@dataclass(frozen=True)
class ConversionRequest:
    """What to convert, and where to write it.

    paths: the files.  folder: where to write, None for the folder of each file.  name: the name of the embedding if
    there is only one, None for the names that the files have.  replace: whether existing files may be replaced.
    """

    paths: Sequence[Path]
    folder: Path | None = None
    name: str | None = None
    replace: bool = False


@dataclass(frozen=True)
class Converted:
    """A converted embedding. file: the file that was written.  warnings: one sentence each."""

    conversion: Conversion
    file: Path
    warnings: tuple[str, ...]

    def as_json(self) -> ConvertAnswer:
        """All of it as plain values."""
        found = self.conversion
        return {
            "file": str(self.file),
            "name": found.name,
            "sources": [str(path) for path in found.sources],
            "form": found.form,
            "architecture": found.architecture.name,
            "vectors": found.count,
            "encoders": {
                key: {"width": stored.shape[1], "vectors": stored.shape[0], "dtype": TORCH_NAMES[stored.dtype]}
                for key, stored in found.tensors.items()
            },
            "tag": dict(read_embedding_header(self.file).metadata),
            "warnings": list(self.warnings),
        }


def convert(request: ConversionRequest) -> list[Converted]:
    """Write the embeddings of some files as safetensors files. All are read before the first is written.

    StorageError if one cannot be read or named, if a file exists already, or if the disk refuses.
    """
    for path in request.paths:
        if path.is_dir():
            raise StorageError(f"{quote(path.name)} is a folder.", hint="Choose the files in it.")
    conversions = prepare_conversions(request.paths, request.name)
    targets = [conversion.target(request.folder) for conversion in conversions]
    if twice := [path for index, path in enumerate(targets) if path in targets[:index]]:
        message = f"Two of these files would both be saved as {quote(twice[0].name)}."
        raise StorageError(message, hint="Convert one file at a time.", remedy=Remedy.GIVE_NAME)
    if not request.replace:
        for path in targets:
            check_not_existing(path)
    warnings = [_find_warnings(conversion, path) for conversion, path in zip(conversions, targets, strict=True)]
    return [
        Converted(conversion, conversion.save(request.folder, overwrite=request.replace), sentences)
        for conversion, sentences in zip(conversions, warnings, strict=True)
    ]


def _find_warnings(conversion: Conversion, target: Path) -> tuple[str, ...]:
    """Warnings about a file, its name, and files with the same name in its folder."""
    tokenizer = clip_tokenizer()
    neighbours = EmbeddingFolder(target.parent, tokenizer).names() if target.parent.is_dir() else ()
    others = set(neighbours) - {conversion.name, *(path.stem for path in conversion.sources)}
    of_name = check_name(conversion.name, existing=others, tokenizer=tokenizer).warnings
    of_duplicates = [
        f"{quote(path.name)} in the same folder has the same name, and web UIs load only one of the two. Move it away."
        for path in conversion.sources
        if path.parent == target.parent and path.stem == target.stem and path.suffix.lower() in SUFFIXES[1:]
    ]
    return (*of_name, *of_duplicates, *conversion.warnings)
