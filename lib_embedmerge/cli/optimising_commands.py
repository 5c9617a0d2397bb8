"""The commands that improve vectors: functions from options to one plain value, which is also the JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.cli.progress import progress_bar
from lib_embedmerge.cli.standard_input import read_source
from lib_embedmerge.core.endings import LISTED

if TYPE_CHECKING:
    from lib_embedmerge.actions.optimised_files import Target
    from lib_embedmerge.core.optimising_answers import OptimisedAnswer


def compress(options: argparse.Namespace) -> OptimisedAnswer:
    """Make fewer vectors that do the same."""
    from lib_embedmerge.actions import optimising
    from lib_embedmerge.facade import open_checkpoint

    file = _find_file(options.source)
    request = optimising.CompressRequest(
        _make_target(options, file),
        options.vectors,
        None if file else read_source(options.source),
        file,
        options.seed,
        options.attention,
        options.read_as,
        options.steps,
    )
    model = open_checkpoint(options.checkpoint, device=options.device)
    with progress_bar("Compressing", quiet=options.json) as progress:
        return optimising.compress(model, request, progress)


def port(options: argparse.Namespace) -> OptimisedAnswer:
    """Carry an embedding to another model."""
    from lib_embedmerge.actions import optimising
    from lib_embedmerge.facade import open_checkpoint

    file = Path(options.file)
    a, b = (open_checkpoint(path, device=options.device) for path in (options.naming, options.checkpoint))
    with progress_bar("Porting", quiet=options.json) as progress:
        return optimising.port(a, b, optimising.PortRequest(_make_target(options, file), file, options.steps), progress)


def repair(options: argparse.Namespace) -> OptimisedAnswer:
    """Repair an embedding that drowns its prompts."""
    from lib_embedmerge.actions import optimising
    from lib_embedmerge.facade import open_checkpoint

    file = Path(options.file)
    model = open_checkpoint(options.checkpoint, device=options.device)
    with progress_bar("Repairing", quiet=options.json) as progress:
        request = optimising.RepairRequest(_make_target(options, file), file, options.steps)
        return optimising.repair(model, request, progress)


def _find_file(text: str) -> Path | None:
    """The embedding that an argument names; None if it is a text. What ends like a file of an embedding is one."""
    return Path(text) if text.lower().endswith(LISTED) else None


def _make_target(options: argparse.Namespace, file: Path | None) -> Target:
    from lib_embedmerge.actions.optimised_files import Target

    folder = Path(options.output) if options.output else file.parent if file else Path()
    return Target(folder, options.name, overwrite=options.force)
