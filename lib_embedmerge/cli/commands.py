"""What each command does: options in, one plain value out, which is also its JSON. Draws nothing but progress.

The work is done by actions, which are imported inside the commands: `parse` and usage errors come without torch, in a
tenth of the time.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
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
        InfoAnswer,
        ListedEmbedding,
        ParseAnswer,
        RebuildAnswer,
        RecoverFileAnswer,
        ShowAnswer,
    )
    from lib_embedmerge.facade import CheckpointModel

_FINGERPRINTING = "Fingerprinting the model (only once)"


class StoppedError(Exception):
    """Ctrl+C in the middle. result: what was done until then, as the command would have given it."""

    def __init__(self, result: object) -> None:
        super().__init__("interrupted")
        self.result = result


def build(options: argparse.Namespace) -> BuildAnswer | list[BuildAnswer]:
    """Make an embedding and save it; with --split a list of them, as many as the source needs."""
    from lib_embedmerge.actions import from_files
    from lib_embedmerge.actions.typed_input import read_to_build
    from lib_embedmerge.actions.values import SaveRequest

    source = read_source(options.source)
    read_to_build(source, options.attention, options.read_as)  # a mistake costs no wait for the model
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
        saved = from_files.build(_open(options), request, folder, _path(options.embeddings), progress)
    return saved if options.split else saved[0]


def show(options: argparse.Namespace) -> ShowAnswer:
    """An embedding's figures and tag; with a checkpoint its nearest tokens there, and whether it fits."""
    from lib_embedmerge.actions import from_files

    model = _open_and_fingerprint(options) if options.checkpoint else None
    with _pointing_to("info", options.file):
        return from_files.show(Path(options.file), options.bundled, model, options.nearest)


def list_(options: argparse.Namespace) -> list[ListedEmbedding]:
    """Every embedding of a folder, by its header alone; with a checkpoint also how each fits."""
    from lib_embedmerge.actions import from_files

    model = _open_and_fingerprint(options) if options.checkpoint else None
    return from_files.list_folder(Path(options.embeddings or "."), model)


def rebuild(options: argparse.Namespace) -> list[RebuildAnswer]:
    """Variants of embeddings for other checkpoints: one result for each pair. StoppedError at Ctrl+C."""
    from lib_embedmerge.actions import from_files

    paths = [Path(path) for path in options.paths]
    first = paths[0]
    embeddings = _path(options.embeddings) or (first if first.is_dir() else first.parent)
    checkpoints = [Path(path) for path in options.checkpoint]
    request = from_files.RebuildRequest(paths, checkpoints, embeddings, _path(options.output), options.device)
    results: list[RebuildAnswer] = []
    try:
        with progress_bar("Rebuilding", quiet=options.json, counted=True) as progress:
            results.extend(from_files.rebuild(request, progress))
    except KeyboardInterrupt as error:
        raise StoppedError(results) from error
    return results


def exit_code_of_rebuild(results: Sequence[RebuildAnswer]) -> int:
    """The exit code of `rebuild`: 1 if there is no embedding for its checkpoint now."""
    from lib_embedmerge.actions.from_files import is_nothing_rebuilt

    return int(is_nothing_rebuilt(results))


def recover(options: argparse.Namespace) -> RecoverFileAnswer:
    """The recovered expression and what each checkpoint leaves; with --save also the file that has it now."""
    from lib_embedmerge.actions import from_files

    with progress_bar("Recovering", quiet=options.json) as progress:
        checkpoints = [Path(path) for path in options.checkpoint]
        found = from_files.recover(Path(options.file), options.bundled, checkpoints, options.device, progress)
    if not options.save:
        return found.as_json()
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        return found.as_json(found.save(force=options.force, progress=progress))


def convert(options: argparse.Namespace) -> list[ConvertAnswer]:
    """Write each embedding of these files as a safetensors file; one result for each that was written."""
    from lib_embedmerge.actions import converting

    paths = [Path(path) for path in options.paths]
    request = converting.ConversionRequest(paths, _path(options.output), options.name, options.force)
    return [converted.as_json() for converted in converting.convert(request)]


def compare(options: argparse.Namespace) -> list[CompareAnswer]:
    """How the checkpoints differ, one result for each pair."""
    from lib_embedmerge.actions import comparing

    source = None if options.source is None else read_source(options.source)
    request = comparing.CompareRequest(source, options.embedding, options.embeddings, options.device, options.top)
    with progress_bar("Comparing", quiet=options.json) as progress:
        found = comparing.compare_models([options.first, *options.others], request, progress)
    return [comparison.as_json() for comparison in found]


def parse(options: argparse.Namespace) -> ParseAnswer:
    """How a source is read: its kind, its canonical spelling and its parts with their token ids."""
    from lib_embedmerge.actions import from_files
    from lib_embedmerge.lang.typed import read_typed

    typed = read_typed(read_source(options.source), options.attention, options.read_as)
    model = _open(options) if options.checkpoint else None
    return from_files.parse(typed, options.by, model, _path(options.embeddings))


def info(options: argparse.Namespace) -> InfoAnswer:
    """What a checkpoint is, read off its file, and the fingerprints of its text encoders."""
    from lib_embedmerge.actions import from_files

    with _pointing_to("show", options.checkpoint):
        model = _open(options)
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        return from_files.describe_checkpoint(model, progress)


def report(options: argparse.Namespace) -> dict[str, Any]:
    """What a bug report needs; with a checkpoint, what that is."""
    from lib_embedmerge.actions import reporting

    if options.checkpoint is None:
        return reporting.report().as_json()
    try:
        model = _open_and_fingerprint(options)
    except CheckpointError as error:
        return reporting.report_of_fault(error, Path(options.checkpoint)).as_json()
    return reporting.report_on(model).as_json()


def demo(options: argparse.Namespace) -> DemoAnswer:
    """Make the demo checkpoint and an embedding on it; gives both, and the embedding as `show` does."""
    from lib_embedmerge.actions import from_files
    from lib_embedmerge.actions.values import SaveRequest
    from lib_embedmerge.demo import DEMO_NAME, DEMO_SOURCE, make_demo_checkpoint

    with progress_bar("Making the demo checkpoint (only once)", quiet=options.json) as progress:
        checkpoint = make_demo_checkpoint(progress)
    model = from_files.ModelFiles(checkpoint).open()
    request = SaveRequest(DEMO_SOURCE, DEMO_NAME, overwrite=True)
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        (made,) = from_files.build(model, request, checkpoint.parent, progress=progress)
    shown = from_files.show(Path(made["file"]), None, model, nearest=3)
    return {"checkpoint": str(checkpoint), "source": DEMO_SOURCE, "build": made, "show": shown}


def _path(given: str | None) -> Path | None:
    return Path(given) if given else None


def _open(options: argparse.Namespace) -> CheckpointModel:
    from lib_embedmerge.actions.from_files import ModelFiles

    encoders = tuple(map(Path, options.text_encoder))
    return ModelFiles(Path(options.checkpoint), _path(options.embeddings), encoders, options.device).open()


def _open_and_fingerprint(options: argparse.Namespace) -> CheckpointModel:
    """The model, with a progress bar while it is fingerprinted."""
    model = _open(options)
    with progress_bar(_FINGERPRINTING, quiet=options.json) as progress:
        model.fingerprints(progress)
    return model


@contextlib.contextmanager
def _pointing_to(command: Literal["info", "show"], path: str) -> Iterator[None]:
    """Let an error about a file that another command is for say so."""
    from lib_embedmerge.actions import from_files

    try:
        yield
    except (CheckpointError, StorageError) as error:
        is_for_it = from_files.is_checkpoint if command == "info" else from_files.is_embedding
        if is_for_it(Path(path)):
            kind = "a checkpoint" if command == "info" else "an embedding"
            error.message = f"{quote(Path(path).name)} is {kind}."
            error.hint = f"Use: embedmerge {command} {quote(path)}"
        raise
