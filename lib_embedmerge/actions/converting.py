"""Files of embeddings made into tagged safetensors files. No model and no host is needed for it."""

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
from lib_embedmerge.tokenizer import clip_tokenizer


@dataclass(frozen=True)
class ConversionRequest:
    """paths: the files.  folder: where to write, None for beside each file.  name: of the one embedding, None for
    names of their own.  replace: whether files of these names are replaced."""

    paths: Sequence[Path]
    folder: Path | None = None
    name: str | None = None
    replace: bool = False


@dataclass(frozen=True)
class Converted:
    """An embedding that was written. file: where.  warnings: what a person should know, one sentence each."""

    conversion: Conversion
    file: Path
    warnings: tuple[str, ...]

    def as_json(self) -> ConvertAnswer:
        """All that there is to tell, plain."""
        found = self.conversion
        return {
            "file": str(self.file),
            "name": found.name,
            "sources": [str(path) for path in found.sources],
            "form": found.form,
            "architecture": found.architecture.name,
            "vectors": found.count,
            "encoders": {
                key: {"width": rows.shape[1], "vectors": len(rows), "dtype": str(rows.dtype).removeprefix("torch.")}
                for key, rows in found.tensors.items()
            },
            "tag": dict(read_embedding_header(self.file).metadata),
            "warnings": list(self.warnings),
        }


def convert(request: ConversionRequest) -> list[Converted]:
    """Write the embeddings of these files as safetensors. All are read before the first is written.

    StorageError where one cannot be read or named, a file is there already, or the disk refuses.
    """
    for path in request.paths:
        if path.is_dir():
            raise StorageError(f"{quote(path.name)} is a folder.", hint="Choose the files in it.")
    found = prepare_conversions(request.paths, request.name)
    targets = [one.target(request.folder) for one in found]
    if twice := [path for place, path in enumerate(targets) if path in targets[:place]]:
        message = f"Two of these files would both be saved as {quote(twice[0].name)}."
        raise StorageError(message, hint="Convert one file at a time.", remedy=Remedy.GIVE_NAME)
    if not request.replace:
        for path in targets:
            check_not_existing(path)
    warnings = [_warnings(one, path) for one, path in zip(found, targets, strict=True)]
    return [
        Converted(one, one.save(request.folder, overwrite=request.replace), told)
        for one, told in zip(found, warnings, strict=True)
    ]


def _warnings(conversion: Conversion, target: Path) -> tuple[str, ...]:
    """What is to be known of the file, its name, and what has the same name beside it."""
    tokenizer = clip_tokenizer()
    beside = EmbeddingFolder(target.parent, tokenizer).names() if target.parent.is_dir() else ()
    others = set(beside) - {conversion.name, *(path.stem for path in conversion.sources)}
    named = check_name(conversion.name, existing=others, tokenizer=tokenizer).warnings
    alike = [
        f"{quote(path.name)} in the same folder has the same name, and web UIs load only one of the two. Move it away."
        for path in conversion.sources
        if path.parent == target.parent and path.stem == target.stem and path.suffix.lower() in SUFFIXES[1:]
    ]
    return (*named, *alike, *conversion.warnings)
