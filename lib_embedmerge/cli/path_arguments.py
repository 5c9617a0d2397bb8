"""Check the files and folders in options before slow imports, so that the message for a wrong path appears at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from lib_embedmerge.errors import CheckpointError, StorageError, quote

_CHECKPOINTS = ("checkpoint", "first", "others", "text_encoder", "naming")
_FILES = ("file", "embedding")


def check_paths(options: argparse.Namespace) -> None:
    """Check that all paths in the options exist, and replace the file name of the demo's checkpoint by its path.

    CheckpointError or StorageError for the first path that does not exist.
    """
    for option in (*_CHECKPOINTS, "file"):
        _replace_demo_name(options, option)
    if options.name_of_command in {"rebuild", "restore"}:
        _check_rebuild_paths(options)
        return
    for option in _CHECKPOINTS:
        for path in _find_missing(options, option):
            raise CheckpointError(f"{quote(path.name)} does not exist.", hint=_describe_search(path))
    for option in (*_FILES, "paths"):
        for path in _find_missing(options, option):
            raise StorageError(f"{quote(path.name)} does not exist.", hint=_describe_search(path))
    for name in _list_names(options, "file"):
        if Path(name).is_dir():
            hint = f"To list it: embedmerge list --embeddings {quote(name)}"
            raise StorageError(f"{quote(name)} is a folder, not an embedding.", hint=hint)
    folder = getattr(options, "embeddings", None)
    if folder is not None and options.name_of_command != "serve" and not Path(folder).is_dir():
        message = f"The embeddings folder does not exist: {quote(folder)}."
        raise StorageError(message, hint="Create it, or choose another folder.")


def _check_rebuild_paths(options: argparse.Namespace) -> None:
    for path in _find_missing(options, "paths"):
        raise StorageError(f"There is no file or folder {quote(path)}.", hint="Give embedding files or folders.")
    for path in _find_missing(options, "checkpoint"):
        raise CheckpointError(f"There is no checkpoint {quote(path)}.", hint="Nothing was written.")


def _find_missing(options: argparse.Namespace, option: str) -> Iterator[Path]:
    return (Path(name) for name in _list_names(options, option) if not os.path.lexists(name))


def _list_names(options: argparse.Namespace, option: str) -> list[str]:
    value = getattr(options, option, None)
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _describe_search(path: Path) -> str:
    return f"Looked for {quote(path.absolute())}."


def _replace_demo_name(options: argparse.Namespace, option: str) -> None:
    """Replace the file name of the demo's checkpoint in an option by its path, as `_resolve_demo_name` does."""
    value = getattr(options, option, None)
    if isinstance(value, str):
        setattr(options, option, _resolve_demo_name(value))
    elif isinstance(value, list):
        setattr(options, option, [_resolve_demo_name(name) for name in value])


def _resolve_demo_name(name: str) -> str:
    """The path of the demo's checkpoint if `name` is its file name and no such file exists here, else `name`."""
    from lib_embedmerge.files.cache import DEMO_CHECKPOINT, demo_folder

    demo = demo_folder() / DEMO_CHECKPOINT
    return str(demo) if name == DEMO_CHECKPOINT and not os.path.lexists(name) and demo.is_file() else name
