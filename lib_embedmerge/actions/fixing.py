"""Save copies of embeddings without what the doctor finds wrong with them."""

from __future__ import annotations

from pathlib import Path

from lib_embedmerge.actions.inspecting import find_model_for, load_file, load_name
from lib_embedmerge.actions.saving import save_made
from lib_embedmerge.actions.saving_values import Saved
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.recipes.doctor import find_flaws, fix, name_copy


def fix_name(host: Host, name: str, *, replace: bool = False) -> Saved:
    """Save a copy of an embedding of the library, as `save_made` does, under the name that `name_copy` gives.

    replace: whether an existing file of that name may be replaced.
    StorageError if there is no such embedding, nothing to fix, or the disk refuses.
    """
    return _fix(host, load_name(host, name), replace=replace)


def fix_file(host: Host, path: Path, shown_name: str, *, replace: bool = False) -> Saved:
    """As `fix_name`, of a dropped file. path: where it is stored now.  shown_name: the name of the user's file."""
    return _fix(host, load_file(path, shown_name)[0], replace=replace)


def _fix(host: Host, embedding: Embedding, *, replace: bool) -> Saved:
    model = find_model_for(host, embedding)
    if not any(flaw.can_be_fixed for flaw in find_flaws(embedding, model)):
        raise StorageError(f"Nothing in {quote(embedding.name)} can be fixed.", hint="Inspect it again.")
    return save_made(host, fix(embedding, name_copy(embedding.name), model), replace=replace)
