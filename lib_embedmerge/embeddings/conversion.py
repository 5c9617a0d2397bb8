"""Embeddings of any form as tagged safetensors files, their vectors bit for bit; the halves of a pair joined.

The tag says what is known and no more: the form that it came in, what models it is for, what the file said beside its
vectors. No model is needed for it. How a form is read is embedding_file.py's matter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, WIDTHS, Architecture, find_architecture
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.embedding import check_not_existing
from lib_embedmerge.embeddings.embedding_file import (
    EmbeddingFile,
    find_partner,
    list_names_in_file,
    open_embedding_file,
)
from lib_embedmerge.embeddings.names import check_name, find_name_error
from lib_embedmerge.embeddings.tag_writing import check_size, with_payload_hash
from lib_embedmerge.errors import Remedy, StorageError, format_count, quote
from lib_embedmerge.files.atomic_file import make_folder, write_atomically
from lib_embedmerge.files.safetensors_file import encode_safetensors, hash_payload
from lib_embedmerge.tokenizer import clip_tokenizer

if TYPE_CHECKING:
    import torch

_SAYS_NOTHING = frozenset(("embedding", "embeddings", "learned_embeds", "model", "pytorch_model", "textual_inversion"))
"""What trainers call every embedding's file."""

_CHECKPOINT = "sd_checkpoint_name"
"""The fact of A1111's that names the model that an embedding was trained on."""


@dataclass(frozen=True)
class Conversion:
    """An embedding ready to be written as a safetensors file.

    name: its file's stem.  sources: the files that it was read from.  form: theirs, for people.
    tensors: by encoder key, [n, width] in the dtype in which they were stored.  metadata: the tag.
    warnings: what a person should know, one sentence each.
    """

    name: str
    sources: tuple[Path, ...]
    form: str
    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str]
    warnings: tuple[str, ...]

    @property
    def architecture(self) -> Architecture:
        """What models it is for."""
        found = find_architecture(tuple(self.tensors))
        assert found is not None  # checked when it was read
        return found

    @property
    def count(self) -> int:
        """Vectors for each text encoder."""
        return len(next(iter(self.tensors.values())))

    def target(self, folder: Path | None) -> Path:
        """The file to be written: in this folder, or beside the first source."""
        return (folder or self.sources[0].parent) / (self.name + SUFFIX)

    def save(self, folder: Path | None, *, overwrite: bool = False) -> Path:
        """Write it, the folder too where that is missing; the path of the file. The same input gives the same bytes.

        StorageError where the file exists and `overwrite` is not given, or the disk refuses.
        """
        path = self.target(folder)
        make_folder(path.parent)
        if not overwrite:
            check_not_existing(path)
        names = self.architecture.tensor_names
        tensors = {names[key]: rows for key, rows in self.tensors.items()}
        metadata = with_payload_hash(self.metadata, hash_payload(tensors))
        write_atomically(path, encode_safetensors(tensors, metadata), overwrite=overwrite)
        return path


def prepare(paths: Sequence[Path], name: str | None = None) -> list[Conversion]:
    """What the embeddings in these files become, each with its vectors; nothing is written.

    A pair of diffusers among them becomes one, and so do any two files with vectors for CLIP-L and for CLIP-G where
    `name` is given. name: of the embedding, which then must be one; else each is called as its file is, or as it calls
    itself where the file's name says nothing. StorageError where one cannot be read, or a name cannot be a file's.
    """
    files = [file for path in dict.fromkeys(paths) for file in _embeddings_in(path)]
    groups = _paired(files, join_any=name is not None)
    if name is not None and len(groups) > 1:
        raise _not_one(files)
    found = [_joined(group, name) if len(group) > 1 else _conversion(group[0], name) for group in groups]
    for one in found:
        if error := find_name_error(one.name):
            raise StorageError(error, hint="Give another name.", remedy=Remedy.GIVE_NAME)
        check_size(one.metadata)
    return found


def suggest_name(token: str | None) -> str | None:
    """A name made of what an embedding calls itself in texts, `<cat-toy>`; None where that gives none."""
    if not token or not any(character.isalnum() for character in token):
        return None
    plain = token.strip("<>* ")
    check = check_name(plain, tokenizer=clip_tokenizer())
    return check.better or plain


def _embeddings_in(path: Path) -> list[EmbeddingFile]:
    names = list_names_in_file(path)
    return [open_embedding_file(path, bundled=name) for name in names] if names else [open_embedding_file(path)]


def _paired(files: Sequence[EmbeddingFile], *, join_any: bool) -> list[list[EmbeddingFile]]:
    """The files that become one embedding each, the half for CLIP-L first."""
    by_path = {os.path.normcase(file.path): file for file in files}
    if join_any and len(files) == 2 and {_only_key(file) for file in files} == {CLIP_L, CLIP_G}:
        return [sorted(files, key=_only_key, reverse=True)]
    groups: list[list[EmbeddingFile]] = []
    for file in files:
        partner = find_partner(file.path)
        other = by_path.get(os.path.normcase(partner)) if partner else None
        if other is None or {_only_key(file), _only_key(other)} != {CLIP_L, CLIP_G}:
            groups.append([file])
        elif _only_key(file) == CLIP_L:
            groups.append([file, other])
    return groups


def _only_key(file: EmbeddingFile) -> str:
    """The text encoder of a file with vectors for one; empty for others."""
    return next(iter(file.layout.parts)) if len(file.layout.parts) == 1 else ""


def _not_one(files: Sequence[EmbeddingFile]) -> StorageError:
    """Why one name is not enough for what these files hold."""
    if len(files) == 2:
        told = " and ".join(f"{quote(file.path.name)} for {' and '.join(file.layout.parts)}" for file in files)
        message = f"These are two embeddings, which cannot be joined: {told}."
        hint = "Only a file with vectors for clip_l alone and one for clip_g alone can be joined."
        return StorageError(message, hint=hint, remedy=Remedy.LEAVE_OUT_NAME)
    message = f"These files contain {len(files)} embeddings, which cannot all have one name."
    return StorageError(message, hint="Convert one file at a time.", remedy=Remedy.LEAVE_OUT_NAME)


def _joined(pair: Sequence[EmbeddingFile], name: str | None) -> Conversion:
    first, second = pair
    if first.layout.count != second.layout.count:
        told = " and ".join(f"{quote(file.path.name)} has {format_count(file.layout.count, 'vector')}" for file in pair)
        raise StorageError(
            f"{told}, so they are not halves of one embedding.", hint="Choose the two that belong together."
        )
    halves = [_conversion(file, name) for file in pair]
    tensors = {**halves[0].tensors, **halves[1].tensors}
    joined = replace(halves[0], sources=(first.path, second.path), form="a pair of diffusers", tensors=tensors)
    warnings = [
        warning for file, half in zip(pair, halves, strict=True) for warning in half.warnings if warning != file.half
    ]
    if first.layout.token != second.layout.token:
        warnings.append(f"The two halves have different names: {first.layout.token} and {second.layout.token}.")
    metadata = {**_known(joined), **_said(first), **second.metadata, **first.metadata, **_named(joined.name, first)}
    return replace(joined, metadata=metadata, warnings=tuple(dict.fromkeys(warnings)))


def _conversion(file: EmbeddingFile, name: str | None) -> Conversion:
    token = suggest_name(file.layout.token or file.layout.bundled)
    called = name or _default_name(file, token)
    warnings = list(file.warnings)
    if token and name is None and token != called:
        warnings.append(f"It calls itself {file.layout.token}. To call it that, convert it with the name {token}.")
    stored = file.stored()
    ordered = {key: stored[key] for key in (*WIDTHS, *stored) if key in stored}
    found = Conversion(called, (file.path,), file.layout.source, ordered, {}, tuple(warnings))
    facts = {} if keys.SCHEMA in file.metadata else _known(found) | _said(file)
    if file.half:  # what models half of a pair is for, its one tensor does not tell
        facts.pop(keys.ARCHITECTURE, None)
    return replace(found, metadata={**facts, **file.metadata, **_named(called, file)})


def _default_name(file: EmbeddingFile, token: str | None) -> str:
    stem = file.path.stem
    says_nothing = stem.lower() in _SAYS_NOTHING or find_partner(file.path) is not None
    if file.layout.bundled is not None or says_nothing:
        return token or file.name
    return file.name


def _known(conversion: Conversion) -> dict[str, str]:
    """What holds of any embedding of these models, and where this one comes from."""
    architecture = conversion.architecture
    sources = " and ".join(path.name for path in conversion.sources)
    known = {
        keys.SPEC: keys.SPEC_VERSION,
        keys.IMPLEMENTATION: keys.REFERENCE_CODE,
        keys.CONVERTED_FROM: f"{sources}: {conversion.form}",
    }
    if architecture.modelspec:
        known[keys.ARCHITECTURE] = f"{architecture.modelspec}/textual-inversion"
    return known


def _said(file: EmbeddingFile) -> dict[str, str]:
    """What the file says beside its vectors."""
    facts = dict(file.layout.facts)
    if file.layout.token:
        facts["token"] = file.layout.token
    said = {keys.FACTS: json.dumps(facts, sort_keys=True, ensure_ascii=False)} if facts else {}
    trained_on = facts.get(_CHECKPOINT, "").strip()
    return said | ({keys.MERGED_FROM: trained_on} if trained_on else {})


def _named(name: str, file: EmbeddingFile) -> dict[str, str]:
    """The embedding's name where the file has none, or the one that it had as a file; a title of its maker's stays."""
    return {key: name for key in (keys.TITLE, keys.TRIGGER) if file.metadata.get(key, file.path.stem) == file.path.stem}
