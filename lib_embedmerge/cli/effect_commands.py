"""The commands about effects: functions from options to one plain value, as in commands.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.cli.progress import progress_bar
from lib_embedmerge.cli.standard_input import read_source
from lib_embedmerge.core.endings import READABLE
from lib_embedmerge.errors import StorageError, quote

if TYPE_CHECKING:
    from lib_embedmerge.actions.measuring_effect import EffectRequest
    from lib_embedmerge.core.effect_answers import EffectAnswer, GroupAnswer, ShortenAnswer, TokenAnswer


def effect(options: argparse.Namespace) -> list[EffectAnswer]:
    """The effect on the first checkpoint against each of the others: one result for each."""
    from lib_embedmerge.actions.measuring_effect import measure_effects

    request = _make_request(options)
    with progress_bar("Measuring", quiet=options.json) as progress:
        return [one.as_json() for one in measure_effects(options.checkpoint, request, progress)]


def groups(options: argparse.Namespace) -> list[GroupAnswer]:
    """Which checkpoints can share a file. With --picture also a picture of the effects in a file."""
    from lib_embedmerge.actions.grouping_models import GroupsRequest, group_models

    request = GroupsRequest(
        files=[Path(file) for file in options.files],
        words=_read_lines(Path(options.words)) if options.words else (),
        by=options.by,
        remake=options.remake,
        limit=options.limit,
        embeddings=options.embeddings,
        clip_skip=options.clip_skip,
        device=options.device,
    )
    with progress_bar("Measuring", quiet=options.json) as progress:
        found = group_models(options.checkpoint, request, progress)
    if options.picture:
        from lib_embedmerge.files.atomic_file import write_atomically
        from lib_embedmerge.ui.views.groups_picture import draw_groups

        write_atomically(Path(options.picture), draw_groups(found).encode("utf-8"), overwrite=True)
    return found.as_json()


def tokens(options: argparse.Namespace) -> list[TokenAnswer]:
    """What each token of a text matters on a checkpoint, in order."""
    from lib_embedmerge.actions.weighing_tokens import weigh_tokens

    source = read_source(options.source)
    with progress_bar("Measuring", quiet=options.json) as progress:
        return [one.as_json() for one in weigh_tokens(source, options.checkpoint, _make_wishes(options), progress)]


def shorten(options: argparse.Namespace) -> ShortenAnswer:
    """A prompt without what matters least on a checkpoint."""
    from lib_embedmerge.actions.shortening import shorten as shorten_prompt

    source = read_source(options.source)
    with progress_bar("Measuring", quiet=options.json) as progress:
        found = shorten_prompt(source, options.checkpoint, options.vectors, _make_wishes(options), progress)
    return found.as_json()


def _make_wishes(options: argparse.Namespace) -> EffectRequest:
    from lib_embedmerge.actions.measuring_effect import EffectRequest

    return EffectRequest(embeddings=options.embeddings, clip_skip=options.clip_skip, device=options.device)


def _read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty. StorageError if it cannot be read or has none."""
    from lib_embedmerge.files.disk_faults import describe_disk_fault

    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error
    except UnicodeDecodeError as error:
        raise StorageError(f"{quote(path.name)} is not a text file in UTF-8.", hint="Save it as UTF-8.") from error
    if not (found := [line for line in lines if line]):
        raise StorageError(f"{quote(path.name)} has no words in it.", hint="Write a word or prompt in each line.")
    return found


def _make_request(options: argparse.Namespace) -> EffectRequest:
    """What is measured, by the options. StorageError if the text is the name of a file that does not exist."""
    from lib_embedmerge.actions.measuring_effect import EffectRequest

    file = _find_file(options.text)
    return EffectRequest(
        source=None if file else read_source(options.text),
        embedding=file,
        remake=getattr(options, "remake", False),
        embeddings=options.embeddings,
        clip_skip=options.clip_skip,
        device=options.device,
    )


def _find_file(text: str) -> Path | None:
    """The embedding file that a text names, or None for other texts."""
    path = Path(text)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # a text that is too long, or that no file can be called
        return None
    if not exists and path.suffix.lower() in READABLE and len(text.split()) == 1:
        message = f"{quote(text)} does not exist."
        raise StorageError(message, hint="Give an embedding file or a text.")
    return path if exists else None
