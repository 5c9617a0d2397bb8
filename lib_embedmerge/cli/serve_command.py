"""The command `embedmerge serve`: start the page of its own, and wait until it is stopped."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_embedmerge.errors import CheckpointError, HostError, quote

if TYPE_CHECKING:
    from lib_embedmerge.core.answers import ServeAnswer
    from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
    from lib_embedmerge.ui.entrance import Key

EMBEDDINGS = "embeddings"
"""The default of --embeddings: the folder of this name here. Web UIs have it under the same name."""


class _StopSignals:
    """Handles Ctrl+C, and SIGTERM from service managers: each ends the program at any time without a stack trace."""

    def __init__(self) -> None:
        self._has_stopped = threading.Event()
        self._is_serving = False
        self._old_handlers: dict[int, Any] = {}

    def listen(self) -> None:
        """Install the handlers. Until `serve` is called, a signal raises KeyboardInterrupt."""
        self._has_stopped.clear()
        self._is_serving = False
        if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # ignored on purpose, for example by `nohup`
                self._old_handlers.setdefault(number, signal.signal(number, self._on_signal))

    def serve(self) -> None:
        """From now on a signal only ends `wait`."""
        self._is_serving = True

    def wait(self) -> None:
        """Wait for a signal."""
        while not self._has_stopped.is_set():
            time.sleep(0.2)  # because Windows does not interrupt an endless wait

    def stop_listening(self) -> None:
        """Restore the old handlers."""
        while self._old_handlers:
            signal.signal(*self._old_handlers.popitem())

    def _on_signal(self, *_: object) -> None:
        if not self._is_serving:
            raise KeyboardInterrupt
        self._has_stopped.set()


_stop_signals = _StopSignals()


def serve(options: argparse.Namespace) -> ServeAnswer:
    """Start the page, which runs until the program ends, and return its address.

    With --login, or if other machines can reach it, it asks for the login or for the token in its address.
    """
    _stop_signals.listen()
    try:
        _say("Starting the page. This takes some seconds...", options)
        answer = _start_page(options)
    except BaseException:
        _stop_signals.stop_listening()
        raise
    _stop_signals.serve()
    return answer


def wait_until_stopped(_: object) -> None:
    """Wait until Ctrl+C, or until another program asks this one to end."""
    try:
        _stop_signals.wait()
    except KeyboardInterrupt:
        return
    finally:
        _stop_signals.stop_listening()


def _start_page(options: argparse.Namespace) -> ServeAnswer:
    key = _make_key(options)  # first, because the rest takes long
    host = _make_host(options)
    title = _find_title(host, options)
    try:
        from lib_embedmerge.ui.page import launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        hint = 'Install it: pip install "gradio>=3.41.2,<7"'
        raise HostError("The Python package gradio is missing. The page needs it.", hint=hint) from error
    import logging

    logging.basicConfig(format="%(message)s")  # prints bugs, which the page only mentions
    try:
        url = launch(host, address=options.host, port=options.port, open_browser=options.open, **key)
    except OSError as error:
        raise _make_port_error(options) from error
    if key and not options.login:
        _say(
            "Only people who have this address with its token can use the page. For a login instead, add --login.",
            options,
        )
    return {"url": url, "checkpoint": title, "embeddings": str(host.embeddings_folder.resolve())}


def _find_title(host: CheckpointHost, options: argparse.Namespace) -> str | None:
    """The title of the checkpoint, or None if no checkpoint in the --models folder can be read: then the page says so.

    CheckpointError if the checkpoint of --checkpoint, or the demo's, cannot be read.
    """
    try:
        return host.active().model.facts.title
    except CheckpointError:
        if options.checkpoint or not options.models:
            raise
        return None


def _say(line: str, options: argparse.Namespace) -> None:
    """Print a line to stderr for people, unless --json is given."""
    if not options.json:
        print(line, file=sys.stderr, flush=True)


def _make_key(options: argparse.Namespace) -> dict[str, Key]:
    """The argument `key` of `launch`: the login, or a new token if other machines can reach the page; else none."""
    from lib_embedmerge.ui.entrance import Key
    from lib_embedmerge.ui.server import is_loopback

    if options.login:
        return {"key": Key(login=options.login)}
    try:
        return {} if is_loopback(options.host) else {"key": Key.new_token()}
    except OSError as error:
        raise _make_port_error(options) from error


def _make_port_error(options: argparse.Namespace) -> HostError:
    """The error for a port or address that the system does not allow."""
    port = f"Port {options.port}" if options.port else "No port from 7860 on"
    verb = "cannot" if options.port else "can"
    message = f"{port} {verb} be used on {options.host}."
    return HostError(
        message, hint="It may be in use: choose another --port. --host must be an address of this computer."
    )


def _find_embedding_folders(place: Path) -> list[Path]:
    """The folders of --embeddings: the folder itself, or those of ComfyUI if it is ComfyUI's folder or its list."""
    from lib_embedmerge.hosts.comfyui.listed_folders import find_listed_folders

    return find_listed_folders(place) or [place]


def _make_host(options: argparse.Namespace) -> CheckpointHost:
    from lib_embedmerge.hosts.checkpoint_host import CheckpointHost

    checkpoint = Path(options.checkpoint) if options.checkpoint else None
    models = Path(options.models) if options.models else None
    if models is not None and not models.is_dir():
        raise HostError(f"There is no folder {quote(models)}.", hint="Give --models the folder with the checkpoints.")
    if checkpoint is None and models is None:
        from lib_embedmerge.cli.progress import progress_bar
        from lib_embedmerge.demo import make_demo_checkpoint

        with progress_bar("Making the demo checkpoint (only once)", quiet=options.json) as progress:
            checkpoint = make_demo_checkpoint(progress)
    folders = _find_embedding_folders(Path(options.embeddings or EMBEDDINGS))
    host = CheckpointHost(folders[0], checkpoint=checkpoint, models=models, more=folders[1:])
    if checkpoint is None:
        host.choose_any()
    return host
