"""Which files a request may name: embeddings of the library, checkpoints of the host. No others are looked at.

What a request says is compared with what a look at the folders has found, and never itself asked of the disk: so no
answer tells whether some other file exists, and on Windows no `\\\\server\\share` is sent the user's credentials.
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
"""Characters of a path on Linux; other systems take fewer."""


def embedding_file(host: Host, asked: str) -> Path:
    """The file of an embedding, by its name as in prompts, or by its path, in the embeddings folder or from it on.

    RefusedError where there is none, or the path leads out of the folder.
    """
    _refuse_long(asked)
    library = host.library()
    if _is_path(asked) and asked not in library.names():
        return _file_of_path(library, asked)
    try:
        return library.path(asked)
    except StorageError as error:
        raise RefusedError(MISSING, error.message, hint=error.hint) from error


def embedding_files(host: Host, asked: Sequence[str] | str) -> list[Path]:
    """Those that are named, each once; all of the library for `all`."""
    if asked == "all":
        return list(host.library().files())
    return list(dict.fromkeys(embedding_file(host, one) for one in dict.fromkeys(asked)))


def checkpoint_file(host: Host, asked: str) -> Path:
    """One of the host's checkpoints, by its title, path, file name, or that without its ending.

    RefusedError where there is none, or the name is that of several.
    """
    _refuse_long(asked)
    checkpoints = host.checkpoints()
    spellings = (
        [path for title, path in checkpoints.items() if title == asked],
        [path for path in checkpoints.values() if asked in (str(path), str(path.absolute()))],
        [path for path in checkpoints.values() if path.name == asked],
        [path for path in checkpoints.values() if path.stem == asked],
    )
    found = set(next(filter(None, spellings), ()))
    if len(found) > 1:
        raise RefusedError(WRONG, f"Several checkpoints are called {quote(asked)}.", hint="Give its title or its path.")
    if not found and _leads_out(asked):
        raise RefusedError(OUTSIDE, "This path is not that of a known checkpoint.", hint="Give its title.")
    if not found:
        raise RefusedError(MISSING, f"There is no checkpoint {quote(asked)}.", hint="Give its title or its file name.")
    return found.pop()


def checkpoint_files(host: Host, asked: Iterable[str]) -> list[Path]:
    """Those that are named, each once."""
    return list(dict.fromkeys(checkpoint_file(host, one) for one in dict.fromkeys(asked)))


def _refuse_long(asked: str) -> None:
    if len(asked) > _LONGEST:
        raise RefusedError(MISSING, "This name is too long.")


def _file_of_path(library: EmbeddingFolder, asked: str) -> Path:
    folder = library.folder
    bases = [base for base in (folder, folder.absolute(), folder.resolve()) if Path(asked).is_relative_to(base)]
    place = str(Path(asked).relative_to(bases[0])) if bases else asked
    if _leads_out(place):
        message = "This path is outside the embeddings folder."
        raise RefusedError(OUTSIDE, message, hint="Give an embedding in it.")
    path = folder / place
    if path not in library.files():
        raise RefusedError(
            MISSING, f"There is no embedding {quote(asked)}.", hint="The route `list` shows all embeddings."
        )
    return path


def _is_path(asked: str) -> bool:
    """Whether it is none of a name: names have neither folders nor endings."""
    from lib_embedmerge.core.endings import LISTED

    return any(character in asked for character in "/\\:\0") or asked.lower().endswith(LISTED)


def _leads_out(place: str) -> bool:
    """Whether a path is more than a place below a folder, on any system: `..`, a drive, a share, a root, a stream."""
    windows = PureWindowsPath(place)
    return bool(windows.anchor) or ".." in windows.parts or any(character in place for character in ":\0")
