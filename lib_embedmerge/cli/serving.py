"""`embedmerge serve`: the page of its own, from its options to a page that runs, and until it is stopped."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_embedmerge.errors import CheckpointError, HostError

if TYPE_CHECKING:
    from lib_embedmerge.hosts.checkpoint import CheckpointHost

EMBEDDINGS = "embeddings"
"""Where embeddings are without --embeddings: in the folder of that name here, which is where web UIs have it too."""


def serve(options: argparse.Namespace) -> dict[str, Any]:
    """Start the page and give its address; it runs until the program ends."""
    host = _host(options)
    title = _title(host, options)
    try:
        from lib_embedmerge.ui.page import launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        hint = 'pip install "gradio>=3.41.2,<5"'
        raise HostError("The page needs gradio, which is not installed.", hint=hint) from error
    logging.basicConfig(format="%(message)s")  # faults of ours, which the page only names
    try:
        url = launch(host, address=options.host, port=options.port, open_browser=options.open)
    except (OSError, ValueError) as error:
        raise _not_served(options, error) from error
    return {"url": url, "checkpoint": title, "embeddings": str(host.embeddings_folder.resolve())}


def _title(host: CheckpointHost, options: argparse.Namespace) -> str | None:
    """The checkpoint's title. One that was named and cannot be read is told here, not in the browser; of a folder of
    them that holds none that can be, the page tells, and offers others: None."""
    try:
        return host.active().model.facts.title
    except CheckpointError:
        if options.checkpoint or not options.models:
            raise
        return None


def stay(_: object) -> None:
    """Do nothing until Ctrl+C."""
    try:
        while True:
            time.sleep(1)  # Windows does not interrupt an endless wait
    except KeyboardInterrupt:
        return


def _not_served(options: argparse.Namespace, error: Exception) -> HostError:
    """gradio's faults in our words; its own speak of its functions."""
    if isinstance(error, ValueError):  # it has asked its own address, in vain
        message = f"The page was started, but {options.host} could not be reached from this machine."
        return HostError(message, hint="Where a proxy is set, add 127.0.0.1 and localhost to NO_PROXY.")
    port = f"Port {options.port}" if options.port else "No port from 7860 on"
    verb = "cannot" if options.port else "can"
    message = f"{port} {verb} be used on {options.host}."
    return HostError(
        message, hint="It may be taken: choose another --port. --host has to be an address of this machine."
    )


def _host(options: argparse.Namespace) -> CheckpointHost:
    from lib_embedmerge.hosts.checkpoint import CheckpointHost

    checkpoint = Path(options.checkpoint) if options.checkpoint else None
    models = Path(options.models) if options.models else None
    if models is not None and not models.is_dir():
        raise HostError(f"There is no folder {str(models)!r}.", hint="Give --models the folder with the checkpoints.")
    if checkpoint is None and models is None:
        from lib_embedmerge.cli.progress import progress_bar
        from lib_embedmerge.demo import make_demo_checkpoint

        with progress_bar("Making the demo checkpoint, once", quiet=options.json) as progress:
            checkpoint = make_demo_checkpoint(progress)
    host = CheckpointHost(Path(options.embeddings or EMBEDDINGS), checkpoint=checkpoint, models=models)
    if checkpoint is None:
        host.choose_any()
    return host
