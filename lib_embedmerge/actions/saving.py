"""An embedding's name looked at, and embeddings saved so that the next prompt finds them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from lib_embedmerge.actions.typed_input import read_to_build
from lib_embedmerge.actions.values import NameReport, Saved, SavedFile, SaveRequest
from lib_embedmerge.core.architecture import Architecture
from lib_embedmerge.core.calling import escape_name
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.ports import Progress, Tokenizer
from lib_embedmerge.core.statistics import mean_length
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding, read_embedding_header
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.names import NameCheck, remove_suffix
from lib_embedmerge.embeddings.names import check_name as check
from lib_embedmerge.errors import EmbedMergeError, ExpressionError, HostError, Remedy, StorageError, TakenError, quote
from lib_embedmerge.files.atomic_file import ChangedError
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.stamps import Identity, read_identity
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.nodes import Inline
from lib_embedmerge.lang.source import Source, parse, read_prompt
from lib_embedmerge.lang.typed import Typed, escape_prompt
from lib_embedmerge.recipes.build import BuildOptions, build_embedding, build_split, list_split_names
from lib_embedmerge.recipes.following import FollowingNames
from lib_embedmerge.tokenizer import clip_tokenizer

_ATTEMPTS = 20


def check_name(host: Host, name: str) -> NameReport:
    """What is to say of a name, the white space around it left out; nothing of a blank one. Never raises."""
    name = remove_suffix(name.strip())
    if not name:
        return NameReport(name)
    try:
        tokenizer = host.active().model.encoders[0].tokenizer
    except EmbedMergeError:
        tokenizer = clip_tokenizer()
    there = _ExistingEmbeddings(host)
    found = there.check(name, tokenizer)
    file = there.file_of(name) if found.error is None else None
    return NameReport(name, found.error, found.warnings, found.better, there.shown(file) if file else "")


def save(host: Host, request: SaveRequest, progress: Progress | None = None) -> Saved:
    """Build what was asked for and save it; where files stand in the way and may not be replaced, write nothing.

    A file of that name is replaced where it lies, in whatever folder of the library; one of another format makes way
    for the new one. ExpressionError or EvaluationError for the source, StorageError for the name or the disk,
    CheckpointError or HostError for the model.
    progress: called with (bytes done, bytes in all) while the model is fingerprinted.
    """
    name = remove_suffix(request.name.strip())
    if not name:
        raise StorageError("The embedding needs a name.", hint="Enter one, for example my_style1.")
    typed = read_to_build(request.source, request.attention, request.read_as, insist=request.insist)
    try:
        saved = _save_source(host, replace(request, name=name), typed, progress)
        return replace(saved, kind=typed.kind)
    except ExpressionError as error:
        raise typed.map_error(error) from error


def existing_error(saved: Saved) -> TakenError:
    """The error for files that stand in the way, for faces that do not ask first."""
    files = list(saved.existing.values())
    message = f"{', '.join(files)} {'already exists' if len(files) == 1 else 'already exist'}."
    return TakenError(message, hint="Choose another name, or overwrite it.", remedy=Remedy.OVERWRITE)


def _save_source(host: Host, request: SaveRequest, typed: Typed, progress: Progress | None) -> Saved:
    """`save`, of a text that was read, under a name without white space around it."""
    name = request.name
    model = host.active().model
    there = _ExistingEmbeddings(host)
    following = FollowingNames(model, quiet=True) if request.follow else None
    names = list_split_names(model, typed.parsed, name, following) if request.split else [name]
    checks = [there.check(one, model.encoders[0].tokenizer, {*names, *request.known_names}) for one in names]
    for found in checks:
        if found.error:
            raise StorageError(found.error, hint=f"This name works: {found.better}." if found.better else None)
    existing = {one: file for one in names if (file := there.file_of(one)) is not None}
    for one, file in existing.items():
        there.refuse_other_architecture(one, file, model.facts.architecture)
    if not all(map(request.may_replace, existing)):
        return Saved(existing={one: there.shown(file) for one, file in existing.items()})
    options = BuildOptions(notes=request.notes, negative=request.negative or None, progress=progress, names=following)
    # All vectors are there before the first file is touched: a source may name what it replaces.
    if request.split:
        embeddings = build_split(model, typed.parsed, name, options)
    else:
        embeddings = [build_embedding(model, typed.parsed, name, options)]
    if host.active().model.facts != model.facts:
        raise HostError("The active model was changed in the meantime; nothing was saved.", hint="Save again.")
    warnings = [*typed.all_remarks, *(warning for found in checks for warning in found.warnings)]
    files = _write(host, embeddings, request, warnings)
    own = (warning for embedding in embeddings for warning in embedding.warnings)
    unique = tuple(dict.fromkeys((*warnings, *own)))  # the pieces of one source mostly have the same to say
    files = tuple(
        replace(file, warnings=(*dict.fromkeys((*warnings, *embedding.warnings)),))
        for file, embedding in zip(files, embeddings, strict=True)
    )
    return Saved(files, {}, _in_prompt(names), _inline(typed.parsed, embeddings), unique)


class _ExistingEmbeddings:
    """The embeddings that are there already."""

    def __init__(self, host: Host) -> None:
        self._folder = host.embeddings_folder
        self._library: EmbeddingFolder | None
        try:
            self._library = host.library()
        except StorageError:  # no folder yet
            self._library = None

    def check(self, name: str, tokenizer: Tokenizer, beside: Collection[str] = ()) -> NameCheck:
        """What speaks against a name beside the others. An embedding of that name is none of them, whatever its
        capitals: it would be replaced."""
        others = {*(self._library.names() if self._library else ()), *beside}
        return check(name, existing=[one for one in others if not _same(one, name)], tokenizer=tokenizer)

    def file_of(self, name: str) -> Path | None:
        """The file that saving under this name would replace. In prompts capitals make no difference, nor do they on
        most disks, so they make none here."""
        known = self._library.names() if self._library else ()
        found = name if name in known else next((one for one in known if _same(one, name)), None)
        if self._library and found is not None:
            return self._library.path(found)
        path = self._folder / (name + SUFFIX)
        return path if os.path.lexists(path) else None

    def shown(self, file: Path) -> str:
        """A file by its place in the folder."""
        return file.relative_to(self._folder).as_posix() if file.is_relative_to(self._folder) else str(file)

    def refuse_other_architecture(self, name: str, file: Path, architecture: Architecture) -> None:
        """TakenError where the file holds an embedding for other models, which the new one would not replace but
        destroy. What cannot be read as an embedding can be replaced."""
        try:
            found = load_embedding(file).architecture
        except StorageError:
            return
        if found != architecture:
            message = f"{quote(name)} is already an embedding for {found.title}: {self.shown(file)}."
            raise TakenError(message, hint="Choose another name.")


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _write(
    host: Host, embeddings: Sequence[Embedding], request: SaveRequest, warnings: list[str]
) -> tuple[SavedFile, ...]:
    """Write one after the other, each made known at once, so that a full disk loses none that was written."""
    there = _ExistingEmbeddings(host)
    files = []
    try:
        for embedding in embeddings:
            path = _write_one(host, there, embedding, request, warnings)
            _make_known(host, path, warnings)
            tag = dict(read_embedding_header(path).metadata)
            encoders = {key: (rows.shape[1], mean_length(rows)) for key, rows in embedding.vectors.items()}
            files.append(SavedFile(embedding.name, path, embedding.count, tag, embedding.recipe, encoders))
    finally:
        _refresh(host, embeddings, warnings)
    return tuple(files)


def _write_one(
    host: Host, there: _ExistingEmbeddings, embedding: Embedding, request: SaveRequest, warnings: list[str]
) -> Path:
    """Write one, in place of the file of its name that is there at this moment, or of none."""
    for _ in range(_ATTEMPTS):
        old = there.file_of(embedding.name)
        seen = read_identity(old) if old else None
        folder = old.parent if old else host.embeddings_folder
        if old:
            there.refuse_other_architecture(embedding.name, old, embedding.architecture)
            host.before_replacing(old)
        with lock_folders([folder]), contextlib.suppress(ChangedError):
            is_same = old is not None and old.name == embedding.name + SUFFIX
            path = embedding.save(
                folder,
                dtype=request.dtype,
                overwrite=request.may_replace(embedding.name),
                seen=seen if is_same else None,
            )
            if old and seen:
                _make_way(old, seen, path, warnings)
            return path
    message = f"{quote(embedding.name)} keeps being changed by another program."
    raise StorageError(message, hint="Close that program, then save again.")


def _make_way(old: Path, seen: Identity, new: Path, warnings: list[str]) -> None:
    """Remove a replaced file that is not the new one itself: of another format, or spelled with other capitals. seen:
    which file was to be replaced."""
    try:
        if old.exists() and not old.samefile(new) and read_identity(old) == seen:
            old.unlink()
    except OSError as error:
        why = describe_disk_fault(error)
        warnings.append(f"The old file {quote(old.name)} could not be removed, and may be used instead: {why}.")


def _make_known(host: Host, path: Path, warnings: list[str]) -> None:
    try:
        host.embedding_saved(path)
    except EmbedMergeError as error:
        warnings.append(f"{quote(path.name)} is saved, but {host.title} has not loaded it yet: {error.message}")


def _refresh(host: Host, embeddings: Sequence[Embedding], warnings: list[str]) -> None:
    """Look through the library again, and say where it still has two files for one name."""
    try:
        library = host.library()
        library.refresh()
        of_folder = library.warnings
    except StorageError as error:
        warnings.append(f"The list of embeddings could not be refreshed: {error.message}")
        return
    warnings += (warning for warning in of_folder if any(repr(embedding.name) in warning for embedding in embeddings))


def _in_prompt(names: Sequence[str]) -> str:
    """Names one behind the other; brackets in them with a backslash, without which they would mean attention."""
    return " ".join(map(escape_name, names))


def _inline(source: Source, embeddings: Sequence[Embedding]) -> str:
    """The source as it stands in a prompt; an expression that was split as its pieces, for a prompt takes no more than
    one embedding holds in one bracket."""
    if source.kind == "prompt":
        return escape_prompt(source.text).strip()
    if len(embeddings) == 1:
        return _bracketed(source.text.strip())
    return " ".join(_bracketed(embedding.recipe or "") for embedding in embeddings)


def _bracketed(expression: str) -> str:
    """An expression as part of a prompt: in angle brackets, in curly ones where its texts hold angle brackets, which
    other programs would not know from ours."""
    angle, curly = f"<{expression}>", "{" + expression + "}"
    wanted = parse(expression).nodes
    forms = [curly, angle] if set(expression) & set("<>") and not set(expression) & set("{}") else [angle, curly]
    # A name that EM left behind is plain text to a prompt; in parentheses it is a text again.
    return next((form for form in forms if _reads_as(form, wanted)), f"<({expression})>")


def _reads_as(form: str, wanted: Sequence[object]) -> bool:
    return [part.expression if isinstance(part, Inline) else part for part in read_prompt(form)] == list(wanted)
