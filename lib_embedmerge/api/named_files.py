"""The files that a request may name: embeddings of the library and checkpoints of the host.

A name is compared with the files in their folders and is never opened itself. So no answer shows whether another file
exists, and Windows does not send the user's credentials to a `\\\\server\\share`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from lib_embedmerge.api.refused_requests import MISSING, OUTSIDE, WRONG, RefusedError
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.embeddings.library import EmbeddingFolder

_LONGEST = 4096
"""Characters of the longest path on Linux; other systems allow fewer."""


def find_embedding_file(host: Host, name: str) -> Path:
    """The file of an embedding.

    name: its name as in prompts, or its path, absolute or relative to the embeddings folder.
    RefusedError if there is no such embedding, or if the path is outside the folder.
    """
    _refuse_long(name)
    library = host.library()
    if _is_path(name) and name not in library.names():
        return _find_by_path(library, name)
    try:
        return library.path(name)
    except StorageError as error:
        raise RefusedError(MISSING, error.message, hint=error.hint) from error


def find_embedding_files(host: Host, names: Sequence[str] | str) -> list[Path]:
    """The files of embeddings, each once, or of the whole library for `all`. RefusedError as `find_embedding_file`."""
    if names == "all":
        return list(host.library().files())
    return list(dict.fromkeys(find_embedding_file(host, name) for name in dict.fromkeys(names)))


def find_checkpoint_file(host: Host, name: str) -> Path:
    """The file of one of the host's checkpoints. name: its title, path, or file name with or without suffix.

    RefusedError if there is no such checkpoint, or if several have this name.
    """
    _refuse_long(name)
    checkpoints = host.checkpoints()
    spellings = (
        [path for title, path in checkpoints.items() if title == name],
        [path for path in checkpoints.values() if name in (str(path), str(path.absolute()))],
        [path for path in checkpoints.values() if path.name == name],
        [path for path in checkpoints.values() if path.stem == name],
    )
    matches = set(next(filter(None, spellings), ()))
    if len(matches) > 1:
        raise RefusedError(WRONG, f"Several checkpoints are called {quote(name)}.", hint="Give its title or its path.")
    if not matches and _leads_out(name):
        raise RefusedError(OUTSIDE, "This path is not that of a known checkpoint.", hint="Give its title.")
    if not matches:
        raise RefusedError(MISSING, f"There is no checkpoint {quote(name)}.", hint="Give its title or its file name.")
    return matches.pop()


def find_checkpoint_files(host: Host, names: Iterable[str]) -> list[Path]:
    """The files of checkpoints, each once. RefusedError as `find_checkpoint_file`."""
    return list(dict.fromkeys(find_checkpoint_file(host, name) for name in dict.fromkeys(names)))


def _refuse_long(name: str) -> None:
    if len(name) > _LONGEST:
        raise RefusedError(MISSING, "This name is too long.")


def _find_by_path(library: EmbeddingFolder, name: str) -> Path:
    named = Path(name)
    folder = next((folder for folder in library.folders if _find_base(folder, named)), library.folder)
    base = _find_base(folder, named)
    relative = str(named.relative_to(base)) if base else name
    if _leads_out(relative):
        message = "This path is outside the embeddings folder."
        raise RefusedError(OUTSIDE, message, hint="Give an embedding in it.")
    path = folder / relative
    if path not in library.files():
        raise RefusedError(
            MISSING, f"There is no embedding {quote(name)}.", hint="The route `list` shows all embeddings."
        )
    return path


def _find_base(folder: Path, path: Path) -> Path | None:
    """The form of a folder's path that a path begins with, if it is in the folder."""
    forms = (folder, folder.absolute(), folder.resolve())
    return next((form for form in forms if path.is_relative_to(form)), None)


def _is_path(name: str) -> bool:
    """Whether this is a path, not a name: names have neither folders nor suffixes."""
    from lib_embedmerge.core.endings import LISTED

    return any(character in name for character in "/\\:\0") or name.lower().endswith(LISTED)


def _leads_out(path: str) -> bool:
    """Whether a path may leave the folder it is relative to, on any system: by `..`, a drive, share, root or stream."""
    windows = PureWindowsPath(path)
    return bool(windows.anchor) or ".." in windows.parts or any(character in path for character in ":\0")
