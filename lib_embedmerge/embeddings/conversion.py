"""Conversion of embeddings of any form to tagged safetensors files, and joining of the two halves of a pair.

Vectors are kept bit for bit. The tag has only what the files tell: their form, the models that the embedding is for,
and facts that they contain besides the vectors. No model is needed. embedding_file.py reads the files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from lib_embedmerge.embeddings.tag_writing import check_size, set_payload_hash
from lib_embedmerge.errors import Remedy, StorageError, format_count, quote
from lib_embedmerge.files.atomic_file import make_folder, write_atomically
from lib_embedmerge.files.safetensors_file import encode_safetensors, hash_payload
from lib_embedmerge.files.stored_values import StoredValues
from lib_embedmerge.tokenizer import clip_tokenizer

_GENERIC_NAMES = frozenset(("embedding", "embeddings", "learned_embeds", "model", "pytorch_model", "textual_inversion"))
"""File names that trainers give to every embedding."""

_CHECKPOINT = "sd_checkpoint_name"
"""The fact in files of A1111 that names the model on which an embedding was trained."""


@dataclass(frozen=True)
class Conversion:
    """An embedding ready to be written as a safetensors file.

    name: the stem of the new file.  sources: the files that it was read from.  form: their form, for people.
    tensors: encoder key -> [n, width] in the dtype in which it was stored.  metadata: the tag.
    warnings: what a user should know, one sentence each.
    """

    name: str
    sources: tuple[Path, ...]
    form: str
    tensors: Mapping[str, StoredValues]
    metadata: Mapping[str, str]
    warnings: tuple[str, ...]

    @property
    def architecture(self) -> Architecture:
        """The architecture of the models that the embedding is for."""
        architecture = find_architecture(tuple(self.tensors))
        assert architecture is not None  # checked when it was read
        return architecture

    @property
    def count(self) -> int:
        """Number of vectors for each text encoder."""
        return next(iter(self.tensors.values())).shape[0]

    def target(self, folder: Path | None) -> Path:
        """The path of the new file: in `folder`, or beside the first source if it is None."""
        return (folder or self.sources[0].parent) / (self.name + SUFFIX)

    def save(self, folder: Path | None, *, overwrite: bool = False) -> Path:
        """Write the file, creating its folder if that is missing, and return its path.

        The same input gives the same bytes. StorageError if the file exists and `overwrite` is false, or if it cannot
        be written.
        """
        path = self.target(folder)
        make_folder(path.parent)
        if not overwrite:
            check_not_existing(path)
        names = self.architecture.tensor_names
        tensors = {names[key]: rows for key, rows in self.tensors.items()}
        metadata = set_payload_hash(self.metadata, hash_payload(tensors))
        write_atomically(path, encode_safetensors(tensors, metadata), overwrite=overwrite)
        return path


def prepare_conversions(paths: Sequence[Path], name: str | None = None) -> list[Conversion]:
    """Read the embeddings in these files for conversion. Nothing is written.

    The two files of a pair of diffusers become one embedding. If `name` is given, so do any two files with vectors for
    CLIP-L and for CLIP-G.
    name: the name of the embedding, if the files contain only one. By default each is named after its file, or as it
    names itself if trainers give that file name to every embedding.
    StorageError if a file cannot be read, a name cannot be that of a file, or `name` is given for several embeddings.
    """
    files = [file for path in dict.fromkeys(paths) for file in _open_embeddings(path)]
    groups = _group_pairs(files, join_any=name is not None)
    if name is not None and len(groups) > 1:
        raise _describe_too_many(files)
    conversions = [_join_pair(group, name) if len(group) > 1 else _convert(group[0], name) for group in groups]
    for conversion in conversions:
        if error := find_name_error(conversion.name):
            raise StorageError(error, hint="Give another name.", remedy=Remedy.GIVE_NAME)
        check_size(conversion.metadata)
    return conversions


def suggest_name(token: str | None) -> str | None:
    """A valid name made from the token that an embedding names itself, such as `<cat-toy>`; None if there is none."""
    if not token or not any(character.isalnum() for character in token):
        return None
    plain = token.strip("<>* ")
    check = check_name(plain, tokenizer=clip_tokenizer())
    return check.better or plain


def _open_embeddings(path: Path) -> list[EmbeddingFile]:
    """All embeddings in a file. StorageError if it cannot be read or contains none."""
    names = list_names_in_file(path)
    return [open_embedding_file(path, bundled=name) for name in names] if names else [open_embedding_file(path)]


def _group_pairs(files: Sequence[EmbeddingFile], *, join_any: bool) -> list[list[EmbeddingFile]]:
    """Groups of files that become one embedding each. In a pair the half for CLIP-L is first.

    join_any: whether two files with vectors for CLIP-L and CLIP-G are a pair whatever their names are.
    """
    by_path = {os.path.normcase(file.path): file for file in files}
    if join_any and len(files) == 2 and {_find_only_key(file) for file in files} == {CLIP_L, CLIP_G}:
        return [sorted(files, key=_find_only_key, reverse=True)]
    groups: list[list[EmbeddingFile]] = []
    for file in files:
        partner = find_partner(file.path)
        other = by_path.get(os.path.normcase(partner)) if partner else None
        if other is None or {_find_only_key(file), _find_only_key(other)} != {CLIP_L, CLIP_G}:
            groups.append([file])
        elif _find_only_key(file) == CLIP_L:
            groups.append([file, other])
    return groups


def _find_only_key(file: EmbeddingFile) -> str:
    """The key of the text encoder, if a file has vectors for only one; otherwise empty."""
    return next(iter(file.layout.parts)) if len(file.layout.parts) == 1 else ""


def _describe_too_many(files: Sequence[EmbeddingFile]) -> StorageError:
    """The error for files that contain more than one embedding although one name was given."""
    if len(files) == 2:
        listed = " and ".join(f"{quote(file.path.name)} for {' and '.join(file.layout.parts)}" for file in files)
        message = f"These are two embeddings, which cannot be joined: {listed}."
        hint = "Only a file with vectors for clip_l alone and one for clip_g alone can be joined."
        return StorageError(message, hint=hint, remedy=Remedy.LEAVE_OUT_NAME)
    message = f"These files contain {len(files)} embeddings, which cannot all have one name."
    return StorageError(message, hint="Convert one file at a time.", remedy=Remedy.LEAVE_OUT_NAME)


def _join_pair(pair: Sequence[EmbeddingFile], name: str | None) -> Conversion:
    """The conversion of two halves. StorageError if they have different numbers of vectors."""
    first, second = pair
    if first.layout.count != second.layout.count:
        counts = (f"{quote(file.path.name)} has {format_count(file.layout.count, 'vector')}" for file in pair)
        raise StorageError(
            f"{' and '.join(counts)}, so they are not halves of one embedding.",
            hint="Choose the two that belong together.",
        )
    halves = [_convert(file, name) for file in pair]
    tensors = {**halves[0].tensors, **halves[1].tensors}
    joined = replace(halves[0], sources=(first.path, second.path), form="a pair of diffusers", tensors=tensors)
    warnings = [
        warning for file, half in zip(pair, halves, strict=True) for warning in half.warnings if warning != file.half
    ]
    if first.layout.token != second.layout.token:
        warnings.append(f"The two halves have different names: {first.layout.token} and {second.layout.token}.")
    metadata = {
        **_make_origin_tag(joined),
        **_make_facts_tag(first),
        **second.metadata,
        **first.metadata,
        **_make_name_tag(joined.name, first),
    }
    return replace(joined, metadata=metadata, warnings=tuple(dict.fromkeys(warnings)))


def _convert(file: EmbeddingFile, name: str | None) -> Conversion:
    """The conversion of one file. StorageError if its values cannot be read."""
    token = suggest_name(file.layout.token or file.layout.bundled)
    new_name = name or _choose_name(file, token)
    warnings = list(file.warnings)
    if token and name is None and token != new_name:
        warnings.append(f"It calls itself {file.layout.token}. To call it that, convert it with the name {token}.")
    stored = file.read_stored_vectors()
    ordered = {key: stored[key] for key in (*WIDTHS, *stored) if key in stored}
    conversion = Conversion(new_name, (file.path,), file.layout.source, ordered, {}, tuple(warnings))
    facts = {} if keys.SCHEMA in file.metadata else _make_origin_tag(conversion) | _make_facts_tag(file)
    if file.half:  # one half does not tell the architecture of the pair
        facts.pop(keys.ARCHITECTURE, None)
    return replace(conversion, metadata={**facts, **file.metadata, **_make_name_tag(new_name, file)})


def _choose_name(file: EmbeddingFile, token: str | None) -> str:
    """The name of the file, or `token` if the file's name does not belong to the embedding."""
    is_generic = file.path.stem.lower() in _GENERIC_NAMES or find_partner(file.path) is not None
    if file.layout.bundled is not None or is_generic:
        return token or file.name
    return file.name


def _make_origin_tag(conversion: Conversion) -> dict[str, str]:
    """The part of the tag about the architecture, and about the files that the embedding comes from."""
    architecture = conversion.architecture
    sources = " and ".join(path.name for path in conversion.sources)
    metadata = {
        keys.SPEC: keys.SPEC_VERSION,
        keys.IMPLEMENTATION: keys.REFERENCE_CODE,
        keys.CONVERTED_FROM: f"{sources}: {conversion.form}",
    }
    if architecture.modelspec:
        metadata[keys.ARCHITECTURE] = f"{architecture.modelspec}/textual-inversion"
    return metadata


def _make_facts_tag(file: EmbeddingFile) -> dict[str, str]:
    """The part of the tag with the facts that a file contains besides its vectors."""
    facts = dict(file.layout.facts)
    if file.layout.token:
        facts["token"] = file.layout.token
    metadata = {keys.FACTS: json.dumps(facts, sort_keys=True, ensure_ascii=False)} if facts else {}
    trained_on = facts.get(_CHECKPOINT, "").strip()
    return metadata | ({keys.MERGED_FROM: trained_on} if trained_on else {})


def _make_name_tag(name: str, file: EmbeddingFile) -> dict[str, str]:
    """The part of the tag with the new name. A title that is not the old file name is kept, so it is not included."""
    return {key: name for key in (keys.TITLE, keys.TRIGGER) if file.metadata.get(key, file.path.stem) == file.path.stem}
