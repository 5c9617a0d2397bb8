"""The commands: functions from options to one plain value, which is also the JSON. They print nothing but progress.

Actions do the work. They are imported inside the commands, so that `parse` and usage errors do not import numpy, which
would take twice as long.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lib_embedmerge.cli.progress import progress_bar
from lib_embedmerge.cli.standard_input import read_source
from lib_embedmerge.errors import CheckpointError, StorageError, quote

if TYPE_CHECKING:
    from lib_embedmerge.core.answers import (
        BuildAnswer,
        CompareAnswer,
        ConvertAnswer,
        DemoAnswer,
        GroupedEmbedding,
        InfoAnswer,
        ListedEmbedding,
        ParseAnswer,
        RebuildAnswer,
        ShowAnswer,
    )
    from lib_embedmerge.core.ports import Model
    from lib_embedmerge.core.recovery_answers import CarriedAnswer, RecoverFileAnswer, RestoreAnswer
    from lib_embedmerge.facade import CheckpointModel

_FINGERPRINTING = "Fingerprinting the model (only once)"


class StoppedError(Exception):
    """Raised when Ctrl+C interrupts a command. result: the command's value for the work that is done so far."""

    def __init__(self, result: object) -> None:
        super().__init__("interrupted")
        self.result = result


def build(options: argparse.Namespace) -> BuildAnswer | list[BuildAnswer]:
    """Make an embedding and save it. With --split the result is a list with as many embeddings as the source needs."""
    from lib_embedmerge.actions import from_files
    from lib_embedmerge.actions.saving_values import SaveRequest
    from lib_embedmerge.actions.typed_input import read_to_build

    source = read_source(options.source)
    read_to_build(
        source, options.attention, options.read_as
    )  # finds mistakes before the model is opened, which takes long
    request = SaveRequest(
        source,
        options.name,
        options.notes,
        negative=options.negative,
        dtype=options.dtype,
        split=options.split,
        overwrite=options.force,
        attention=options.attention,
        read_as=options.read_as,
        follow=options.follow,
    )
    folder = Path(options.output or options.embeddings or ".")
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        saved = from_files.build(_open_model(options), request, folder, _make_path(options.embeddings), progress)
    return saved if options.split else saved[0]


def show(options: argparse.Namespace) -> ShowAnswer:
    """Figures and tag of an embedding. With a checkpoint also its nearest tokens there, and whether it fits."""
    from lib_embedmerge.actions import from_files

    open_model = partial(_open_with_fingerprints, options) if options.checkpoint else None
    with _suggest_command("info", options.file):
        return from_files.show(Path(options.file), options.bundled, options.nearest, open_model, options.doctor)


def list_embeddings(options: argparse.Namespace) -> list[ListedEmbedding] | list[GroupedEmbedding]:
    """Every embedding of a folder, from its header. With a checkpoint also whether each fits."""
    from lib_embedmerge.actions import from_files

    open_model = partial(_open_with_fingerprints, options) if options.checkpoint else None
    listed = from_files.list_folder(Path(options.embeddings or "."), open_model)
    if not getattr(options, "groups", False):
        return listed
    from lib_embedmerge.actions.grouping import add_groups

    return add_groups(listed)


def rebuild(options: argparse.Namespace) -> list[RebuildAnswer]:
    """Make variants of embeddings for other checkpoints: one result for each pair. StoppedError after Ctrl+C."""
    from lib_embedmerge.actions import from_files
    from lib_embedmerge.actions.rebuilding_groups import rebuild_all

    paths = [Path(path) for path in options.paths]
    first = paths[0]
    embeddings = _make_path(options.embeddings) or (first if first.is_dir() else first.parent)
    checkpoints = [Path(path) for path in options.checkpoint]
    request = from_files.RebuildRequest(paths, checkpoints, embeddings, _make_path(options.output), options.device)
    results: list[RebuildAnswer] = []
    try:
        with progress_bar("Rebuilding", quiet=options.json, counted=True) as progress:
            results.extend(rebuild_all(request, options.groups, progress))
    except KeyboardInterrupt as error:
        raise StoppedError(results) from error
    return results


def restore(options: argparse.Namespace) -> list[RestoreAnswer]:
    """Find the texts of the embeddings of folders, and write them: one result for each file. StoppedError after Ctrl+C.

    With --report also a report in a file: a page, or JSON if its name ends in .json.
    """
    from lib_embedmerge.actions.restoring_folders import RestoreRequest, RestoreWishes, restore

    wishes = RestoreWishes(_make_path(options.output), only_sure=options.sure)
    paths, checkpoints = ([Path(path) for path in given] for given in (options.paths, options.checkpoint))
    request = RestoreRequest(paths, checkpoints, wishes, dry_run=options.dry_run, device=options.device)
    results: list[RestoreAnswer] = []

    def fingerprint(model: Model) -> None:
        if not options.dry_run:
            with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
                model.fingerprints(progress)

    try:
        with progress_bar("Restoring", quiet=options.json, counted=True) as progress:
            results.extend(restore(request, progress, on_open=fingerprint))
    except KeyboardInterrupt as error:
        raise StoppedError(results) from error
    finally:
        if options.report:
            _write_report(Path(options.report), results)
    return results


def _write_report(path: Path, results: Sequence[RestoreAnswer]) -> None:
    from lib_embedmerge.actions.restore_report import make_report
    from lib_embedmerge.files.atomic_file import write_atomically

    is_json = path.suffix.lower() == ".json"
    content = json.dumps(results, indent=2, allow_nan=False) if is_json else make_report(results)
    write_atomically(path, content.encode("utf-8"), overwrite=True)


def find_rebuild_exit_code(results: Sequence[RebuildAnswer]) -> int:
    """The exit code of `rebuild`: 1 if all pairs were skipped, else 0."""
    from lib_embedmerge.actions.from_files import is_nothing_rebuilt

    return int(is_nothing_rebuilt(results))


def recover(options: argparse.Namespace) -> RecoverFileAnswer:
    """The recovered expression, and what it does not explain on each checkpoint. With --save also the file."""
    from lib_embedmerge.actions import from_files

    with progress_bar("Recovering", quiet=options.json) as progress:
        recovered = from_files.recover(
            Path(options.file), options.bundled, options.checkpoint, options.device, progress
        )
    if not options.save:
        return recovered.as_json()
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        return recovered.as_json(recovered.save(force=options.force, progress=progress))


def convert(options: argparse.Namespace) -> list[ConvertAnswer] | list[CarriedAnswer]:
    """Write the embeddings of some files as safetensors files: one result for each file that was written.

    With --to for models of another architecture: one result for each file that was given.
    """
    from lib_embedmerge.actions import converting

    if options.to:
        return _convert_to(options)
    paths = [Path(path) for path in options.paths]
    request = converting.ConversionRequest(paths, _make_path(options.output), options.name, options.force)
    return [converted.as_json() for converted in converting.convert(request)]


def _convert_to(options: argparse.Namespace) -> list[CarriedAnswer]:
    from lib_embedmerge.actions.carrying_files import CarryRequest, carry_files
    from lib_embedmerge.facade import open_checkpoint

    target = open_checkpoint(options.checkpoint)
    naming = open_checkpoint(options.naming) if options.naming else None
    request = CarryRequest(
        [Path(path) for path in options.paths],
        options.to,
        _make_path(options.output),
        options.name,
        replace=options.force,
        only_shared=options.only_shared,
    )
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        target.fingerprints(progress)
    results: list[CarriedAnswer] = []
    try:
        with progress_bar("Converting", quiet=options.json, counted=True) as progress:
            results.extend(carry_files(request, target, naming, progress))
    except KeyboardInterrupt as error:
        raise StoppedError(results) from error
    return results


def find_convert_exit_code(results: Sequence[ConvertAnswer] | Sequence[CarriedAnswer]) -> int:
    """The exit code of `convert`: 1 if every file was skipped, else 0."""
    return int(all(result.get("status") == "skipped" for result in results))


def compare(options: argparse.Namespace) -> list[CompareAnswer]:
    """How checkpoints differ: one result for each pair."""
    from lib_embedmerge.actions import comparing

    source = None if options.source is None else read_source(options.source)
    request = comparing.CompareRequest(
        source, options.embedding, options.embeddings, options.device, options.top, options.effect
    )
    with progress_bar("Comparing", quiet=options.json) as progress:
        comparisons = comparing.compare_models([options.first, *options.others], request, progress)
    return [comparison.as_json() for comparison in comparisons]


def parse(options: argparse.Namespace) -> ParseAnswer:
    """How a text is read: its kind, its canonical form, and its parts with their token ids."""
    from lib_embedmerge.actions import from_files
    from lib_embedmerge.lang.typed import read_typed

    typed = read_typed(read_source(options.source), options.attention, options.read_as)
    model = _open_model(options) if options.checkpoint else None
    return from_files.parse(typed, options.by, model, _make_path(options.embeddings))


def info(options: argparse.Namespace) -> InfoAnswer:
    """The facts in a checkpoint's file, and the fingerprints of its text encoders."""
    from lib_embedmerge.actions import from_files

    with _suggest_command("show", options.checkpoint):
        model = _open_model(options)
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        return from_files.describe_checkpoint(model, progress)


def report(options: argparse.Namespace) -> dict[str, Any]:
    """The facts for a bug report. With a checkpoint also its facts, without its name."""
    from lib_embedmerge.actions import reporting

    if options.checkpoint is None:
        return reporting.report().as_json()
    try:
        model = _open_with_fingerprints(options)
    except CheckpointError as error:
        return reporting.report_of_fault(error, Path(options.checkpoint)).as_json()
    return reporting.report_on(model).as_json()


def demo(options: argparse.Namespace) -> DemoAnswer:
    """Make the demo checkpoint and an embedding on it, and show the embedding."""
    from lib_embedmerge.actions import from_files
    from lib_embedmerge.actions.saving_values import SaveRequest
    from lib_embedmerge.demo import DEMO_NAME, DEMO_SOURCE, make_demo_checkpoint
    from lib_embedmerge.facade import open_checkpoint

    with progress_bar("Making the demo checkpoint (only once)", quiet=options.json) as progress:
        checkpoint = make_demo_checkpoint(progress)
    model = open_checkpoint(checkpoint)
    request = SaveRequest(DEMO_SOURCE, DEMO_NAME, overwrite=True)
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        (made,) = from_files.build(model, request, checkpoint.parent, progress=progress)
    shown = from_files.show(Path(made["file"]), None, 3, lambda: model)
    return {"checkpoint": str(checkpoint), "source": DEMO_SOURCE, "build": made, "show": shown}


def _make_path(option: str | None) -> Path | None:
    return Path(option) if option else None


def _open_model(options: argparse.Namespace) -> CheckpointModel:
    from lib_embedmerge.facade import open_checkpoint

    return open_checkpoint(
        options.checkpoint,
        embeddings=options.embeddings,
        text_encoders=options.text_encoder,
        device=options.device,
    )


def _open_with_fingerprints(options: argparse.Namespace) -> CheckpointModel:
    """The model of the options, with its fingerprints. A progress bar shows how far they are computed."""
    model = _open_model(options)
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        model.fingerprints(progress)
    return model


@contextlib.contextmanager
def _suggest_command(command: Literal["info", "show"], path: str) -> Iterator[None]:
    """In an error about a file that another command is for, say so and name the command."""
    from lib_embedmerge.actions import from_files

    try:
        yield
    except (CheckpointError, StorageError) as error:
        is_for_command = from_files.is_checkpoint if command == "info" else from_files.is_embedding
        if is_for_command(Path(path)):
            kind = "a checkpoint" if command == "info" else "an embedding"
            error.message = f"{quote(Path(path).name)} is {kind}."
            error.hint = f"Use: embedmerge {command} {quote(path)}"
        raise
