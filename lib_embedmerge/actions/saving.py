"""Check the name of an embedding, and save embeddings so that the next prompt finds them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from lib_embedmerge.actions.saved_prompts import join_names, write_inline
from lib_embedmerge.actions.saving_values import NameReport, Saved, SavedFile, SaveRequest
from lib_embedmerge.actions.typed_input import read_to_build
from lib_embedmerge.core.architecture import Architecture
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.ports import Progress, Tokenizer
from lib_embedmerge.core.statistics import mean_length
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding, read_embedding_header
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.metadata import read_own_metadata
from lib_embedmerge.embeddings.names import NameCheck, remove_suffix
from lib_embedmerge.embeddings.names import check_name as check
from lib_embedmerge.embeddings.tag_keys import NOTES_BY_MODEL
from lib_embedmerge.errors import EmbedMergeError, ExpressionError, HostError, Remedy, StorageError, TakenError, quote
from lib_embedmerge.files.atomic_file import ChangedError
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.stamps import Identity, read_identity
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.typed import Typed
from lib_embedmerge.recipes.build import BuildOptions, build_embedding, build_split, list_split_names
from lib_embedmerge.tokenizer import clip_tokenizer

_ATTEMPTS = 20


def check_name(host: Host, name: str) -> NameReport:
    """Whether a name can be used, without the white space around it. An empty report for a blank name. Never raises."""
    name = remove_suffix(name.strip())
    if not name:
        return NameReport(name)
    existing = _ExistingEmbeddings(host)
    checked = existing.check(name, _find_tokenizer(host))
    file = existing.find_file(name) if checked.error is None else None
    shown = existing.make_place(file) if file else ""
    return NameReport(name, checked.error, checked.warnings, checked.better, shown)


def save(host: Host, request: SaveRequest, progress: Progress | None = None) -> Saved:
    """Build an embedding and save it. If files exist that may not be replaced, nothing is written.

    A file of the name is replaced in the folder in which it is; a file of another format is removed.
    ExpressionError or EvaluationError for the source, StorageError for the name or the disk, CheckpointError or
    HostError for the model.
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


def save_made(host: Host, embedding: Embedding, *, replace: bool) -> Saved:
    """Save an embedding that is made already. If its file exists and may not be replaced, nothing is written.

    replace: whether an existing file of its name may be replaced. Raises as `save` does for the name and the disk.
    """
    library = _ExistingEmbeddings(host)
    checked = library.check(embedding.name, _find_tokenizer(host))
    if checked.error:
        raise StorageError(checked.error, hint="Rename the file first.")
    request = SaveRequest("", embedding.name, overwrite=replace)
    if existing := library.find_obstacles([embedding.name], request):
        return Saved(existing=existing)
    warnings = list(checked.warnings)
    files = _write(host, [embedding], request, warnings)
    return Saved(files, {}, join_names([embedding.name]), "", (*dict.fromkeys((*warnings, *embedding.warnings)),))


def check_can_save(host: Host, name: str, architecture: Architecture, *, replace: bool) -> None:
    """TakenError if `save_made` would refuse an embedding of this name, because a file is in the way."""
    library = _ExistingEmbeddings(host)
    library.refuse_other_architectures([name], architecture)
    if existing := library.find_obstacles([name], SaveRequest("", name, overwrite=replace)):
        raise make_existing_error(Saved(existing=existing))


def _find_tokenizer(host: Host) -> Tokenizer:
    """The tokenizer of the active model, or CLIP's if there is none."""
    try:
        return host.active().model.encoders[0].tokenizer
    except EmbedMergeError:
        return clip_tokenizer()


def make_existing_error(saved: Saved) -> TakenError:
    """The error for existing files that may not be replaced, for faces that do not ask the user."""
    files = list(saved.existing.values())
    message = f"{', '.join(files)} {'already exists' if len(files) == 1 else 'already exist'}."
    return TakenError(message, hint="Choose another name, or overwrite it.", remedy=Remedy.OVERWRITE)


def _save_source(host: Host, request: SaveRequest, typed: Typed, progress: Progress | None) -> Saved:
    """Build and save a source that was read. request: its name has no white space around it."""
    name = request.name
    model = host.active().model
    library = _ExistingEmbeddings(host, only_own_file=request.only_own_file)
    following = None
    if request.follow:
        from lib_embedmerge.recipes.following import FollowingNames  # which few builds need

        following = FollowingNames(model, quiet=True)
    names = list_split_names(model, typed.parsed, name, following) if request.split else [name]
    checks = [library.check(each, model.encoders[0].tokenizer, {*names, *request.known_names}) for each in names]
    for checked in checks:
        if checked.error:
            raise StorageError(checked.error, hint=f"This name works: {checked.better}." if checked.better else None)
    if request.only_own_file and (existing := library.find_obstacles(names, request)):
        return Saved(existing=existing)
    options = BuildOptions(notes=request.notes, negative=request.negative or None, progress=progress, names=following)
    # All vectors are computed before the first file is changed: a source may name an embedding that it replaces.
    if request.split:
        embeddings = build_split(model, typed.parsed, name, options)
    else:
        embeddings = [build_embedding(model, typed.parsed, name, options)]
    library.refuse_other_architectures(names, model.facts.architecture)
    if existing := library.find_obstacles(names, request):
        return Saved(existing=existing)
    if host.active().model.facts != model.facts:
        raise HostError("The active model was changed in the meantime; nothing was saved.", hint="Save again.")
    warnings = [*typed.all_remarks, *(warning for checked in checks for warning in checked.warnings)]
    files = _write(host, embeddings, request, warnings)
    own = (warning for embedding in embeddings for warning in embedding.warnings)
    unique = tuple(dict.fromkeys((*warnings, *own)))  # the pieces of one source often have the same warnings
    files = tuple(
        replace(file, warnings=(*dict.fromkeys((*warnings, *embedding.warnings)),))
        for file, embedding in zip(files, embeddings, strict=True)
    )
    return Saved(files, {}, join_names(names), write_inline(typed.parsed, embeddings), unique)


class _ExistingEmbeddings:
    """The embeddings that exist in the library."""

    def __init__(self, host: Host, *, only_own_file: bool = False) -> None:
        """only_own_file: as in SaveRequest."""
        self._only_own_file = only_own_file
        self._folder = host.embeddings_folder
        self._library: EmbeddingFolder | None
        try:
            self._library = host.library()
        except StorageError:  # no folder yet
            self._library = None

    def check(self, name: str, tokenizer: Tokenizer, known: Collection[str] = ()) -> NameCheck:
        """Check a name against the other names. An embedding of the same name is ignored, since it would be replaced.

        known: names outside the library.
        """
        others = {*(self._library.names() if self._library else ()), *known}
        return check(name, existing=[other for other in others if not _is_same(other, name)], tokenizer=tokenizer)

    def find_file(self, name: str) -> Path | None:
        """The file that saving under this name would replace. Case is ignored, as in prompts and on most disks."""
        names = self._library.names() if self._library and not self._only_own_file else ()
        existing = name if name in names else next((other for other in names if _is_same(other, name)), None)
        if self._library and existing is not None:
            return self._library.path(existing)
        path = self._folder / (name + SUFFIX)
        return path if os.path.lexists(path) else None

    def make_place(self, file: Path) -> str:
        """The path of a file relative to the embeddings folder, or the whole path if it is elsewhere."""
        return file.relative_to(self._folder).as_posix() if file.is_relative_to(self._folder) else str(file)

    def find_obstacles(self, names: Sequence[str], request: SaveRequest) -> dict[str, str]:
        """Name -> place of its file, for all files that exist, unless all of them may be replaced."""
        files = {name: file for name in names if (file := self.find_file(name)) is not None}
        if all(map(request.may_replace, files)):
            return {}
        return {name: self.make_place(file) for name, file in files.items()}

    def refuse_other_architectures(self, names: Sequence[str], architecture: Architecture) -> None:
        """As `refuse_other_architecture`, for the files of all these names."""
        for name in names:
            if (file := self.find_file(name)) is not None:
                self.refuse_other_architecture(name, file, architecture)

    def refuse_other_architecture(self, name: str, file: Path, architecture: Architecture) -> None:
        """TakenError if the file has an embedding for other models. A file without an embedding can be replaced."""
        if self._only_own_file:
            return
        try:
            existing = load_embedding(file).architecture
        except StorageError:
            return
        if existing != architecture:
            message = f"{quote(name)} is already an embedding for {existing.title}: {self.make_place(file)}."
            raise TakenError(message, hint="Choose another name.")


def _is_same(name: str, other: str) -> bool:
    """Whether two names are the same, ignoring case."""
    return name.casefold() == other.casefold()


def _write(
    host: Host, embeddings: Sequence[Embedding], request: SaveRequest, warnings: list[str]
) -> tuple[SavedFile, ...]:
    """Write embeddings one by one, and tell the host about each at once, so that an error loses none of them."""
    library = _ExistingEmbeddings(host, only_own_file=request.only_own_file)
    files = []
    try:
        for embedding in embeddings:
            path = _write_one(host, library, embedding, request, warnings)
            _notify_host(host, path, warnings)
            tag = dict(read_embedding_header(path).metadata)
            encoders = {key: (rows.shape[1], mean_length(rows)) for key, rows in embedding.vectors.items()}
            files.append(SavedFile(embedding.name, path, embedding.count, tag, embedding.recipe, encoders))
    finally:
        _refresh(host, embeddings, warnings)
    return tuple(files)


def _write_one(
    host: Host, library: _ExistingEmbeddings, embedding: Embedding, request: SaveRequest, warnings: list[str]
) -> Path:
    """Write an embedding, and replace the file of its name, if there is one now."""
    for _ in range(_ATTEMPTS):
        old = library.find_file(embedding.name)
        seen = read_identity(old) if old else None
        folder = old.parent if old else host.embeddings_folder
        if old:
            library.refuse_other_architecture(embedding.name, old, embedding.architecture)
            host.before_replacing(old)
        with lock_folders([folder]), contextlib.suppress(ChangedError):
            if old:
                embedding = _keep_model_notes(embedding, old)
            is_same = old is not None and old.name == embedding.name + SUFFIX
            path = embedding.save(
                folder,
                dtype=request.dtype,
                overwrite=request.may_replace(embedding.name),
                seen=seen if is_same else None,
            )
            if old and seen:
                _remove_replaced(old, seen, path, warnings)
            return path
    message = f"{quote(embedding.name)} was changed by another program again and again."
    raise StorageError(message, hint="Pause that program, perhaps one that synchronises files, then save again.")


def _keep_model_notes(embedding: Embedding, old: Path) -> Embedding:
    """The embedding with the notes by model of the file that it replaces, which are the user's."""
    try:
        notes = read_own_metadata(old).get(NOTES_BY_MODEL)
    except StorageError:  # another form, which has none, or no embedding
        return embedding
    return replace(embedding, metadata={NOTES_BY_MODEL: notes, **embedding.metadata}) if notes else embedding


def _remove_replaced(old: Path, seen: Identity, new: Path, warnings: list[str]) -> None:
    """Remove a replaced file with another suffix or other capitals. seen: its identity when it was found."""
    try:
        if old.exists() and not old.samefile(new) and read_identity(old) == seen:
            old.unlink()
    except OSError as error:
        why = describe_disk_fault(error)
        warnings.append(
            f"The old file {quote(old.name)} could not be deleted: {why}. "
            "Delete it yourself, or it may be used instead of the new one."
        )


def _notify_host(host: Host, path: Path, warnings: list[str]) -> None:
    try:
        host.embedding_saved(path)
    except EmbedMergeError as error:
        warnings.append(f"{quote(path.name)} is saved, but {host.title} has not loaded it yet: {error.message}")


def _refresh(host: Host, embeddings: Sequence[Embedding], warnings: list[str]) -> None:
    """Refresh the library, and warn about names that still have two files."""
    try:
        library = host.library()
        library.refresh()
        of_folder = library.warnings
    except StorageError as error:
        warnings.append(f"The list of embeddings could not be refreshed: {error.message}")
        return
    warnings += (warning for warning in of_folder if any(repr(embedding.name) in warning for embedding in embeddings))
