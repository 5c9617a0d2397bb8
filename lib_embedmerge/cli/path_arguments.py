"""Files and folders that a command names, looked for before anything heavy is imported: a wrong path costs no wait."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from lib_embedmerge.errors import CheckpointError, StorageError, quote

_CHECKPOINTS = ("checkpoint", "first", "others", "text_encoder")
_FILES = ("file", "embedding")


def check_paths(options: argparse.Namespace) -> None:
    """Replace the file name of the demo's checkpoint by its path. CheckpointError or StorageError for the first path
    that is not there."""
    for option in (*_CHECKPOINTS, "file"):
        _find_demo(options, option)
    if options.name_of_command == "rebuild":
        _check_rebuild(options)
        return
    for option in _CHECKPOINTS:
        for path in _missing(options, option):
            raise CheckpointError(f"{quote(path.name)} does not exist.", hint=_looked_for(path))
    for option in (*_FILES, "paths"):
        for path in _missing(options, option):
            raise StorageError(f"{quote(path.name)} does not exist.", hint=_looked_for(path))
    for name in _names(options, "file"):
        if Path(name).is_dir():
            hint = f"To list it: embedmerge list --embeddings {quote(name)}"
            raise StorageError(f"{quote(name)} is a folder, not an embedding.", hint=hint)
    folder = getattr(options, "embeddings", None)
    if folder is not None and options.name_of_command != "serve" and not Path(folder).is_dir():
        message = f"The embeddings folder does not exist: {quote(folder)}."
        raise StorageError(message, hint="Create it, or choose another folder.")


def _check_rebuild(options: argparse.Namespace) -> None:
    for path in _missing(options, "paths"):
        raise StorageError(f"There is no file or folder {quote(path)}.", hint="Give embedding files or folders.")
    for path in _missing(options, "checkpoint"):
        raise CheckpointError(f"There is no checkpoint {quote(path)}.", hint="Nothing was rebuilt.")


def _missing(options: argparse.Namespace, option: str) -> Iterator[Path]:
    return (Path(name) for name in _names(options, option) if not os.path.lexists(name))


def _names(options: argparse.Namespace, option: str) -> list[str]:
    given = getattr(options, option, None)
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def _looked_for(path: Path) -> str:
    return f"Looked for {quote(path.absolute())}."


def _find_demo(options: argparse.Namespace, option: str) -> None:
    """Replace the file name of the demo's checkpoint by its path, unless a file of that name lies here."""
    given = getattr(options, option, None)
    if isinstance(given, str):
        setattr(options, option, _found(given))
    elif isinstance(given, list):
        setattr(options, option, [_found(one) for one in given])


def _found(name: str) -> str:
    from lib_embedmerge.files.cache import DEMO_CHECKPOINT, demo_folder

    demo = demo_folder() / DEMO_CHECKPOINT
    return str(demo) if name == DEMO_CHECKPOINT and not os.path.lexists(name) and demo.is_file() else name
