"""`embedmerge serve`: the page of its own, from its options to a page that runs, and until it is stopped."""

from __future__ import annotations

import argparse
import logging
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
"""Where embeddings are without --embeddings: in the folder of that name here, which is where web UIs have it too."""


class _Ending:
    """Ctrl+C, and SIGTERM as service managers send it: each ends the program without a trace, at whatever moment."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self._is_serving = False
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Begin to; until `serve` is called each is an interrupt."""
        self._told.clear()
        self._is_serving = False
        if threading.current_thread() is not threading.main_thread():  # nobody else is sent any
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wants it for what it starts
                self._before.setdefault(number, signal.signal(number, self._tell))

    def serve(self) -> None:
        """From here on they are noted, for `wait`."""
        self._is_serving = True

    def wait(self) -> None:
        """Wait for one of them."""
        while not self._told.is_set():
            time.sleep(0.2)  # Windows does not interrupt an endless wait

    def stop_listening(self) -> None:
        """Have both do what they did before."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _tell(self, *_: object) -> None:
        if not self._is_serving:
            raise KeyboardInterrupt
        self._told.set()


_ending = _Ending()


def serve(options: argparse.Namespace) -> ServeAnswer:
    """Start the page and give its address; it runs until the program ends.

    Where other machines can reach it, it asks for the login that was given, or for a token that its address has.
    """
    _ending.listen()
    try:
        _say("Starting the page. This takes some seconds...", options)
        served = _served(options)
    except BaseException:
        _ending.stop_listening()
        raise
    _ending.serve()
    return served


def wait_until_stopped(_: object) -> None:
    """Do nothing until Ctrl+C, or until the program is told to end."""
    try:
        _ending.wait()
    except KeyboardInterrupt:
        return
    finally:
        _ending.stop_listening()


def _served(options: argparse.Namespace) -> ServeAnswer:
    key = _key(options)  # before anything that takes long
    host = _host(options)
    title = _title(host, options)
    try:
        from lib_embedmerge.ui.page import launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        hint = 'Install it: pip install "gradio>=3.41.2,<5"'
        raise HostError("The Python package gradio is missing. The page needs it.", hint=hint) from error
    logging.basicConfig(format="%(message)s")  # faults of ours, which the page only names
    try:
        url = launch(host, address=options.host, port=options.port, open_browser=options.open, **key)
    except OSError as error:
        raise _not_served(options) from error
    if key and not options.login:
        _say(
            "Only people who have this address with its token can use the page. For a login instead, add --login.",
            options,
        )
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


def _say(line: str, options: argparse.Namespace) -> None:
    """What is going on, for people."""
    if not options.json:
        print(line, file=sys.stderr, flush=True)


def _key(options: argparse.Namespace) -> dict[str, Key]:
    """What the page asks for, as an option of `launch`; nothing where only this machine can reach it, unasked."""
    from lib_embedmerge.ui.entrance import Key
    from lib_embedmerge.ui.server import is_loopback

    if options.login:
        return {"key": Key(login=options.login)}
    try:
        return {} if is_loopback(options.host) else {"key": Key.new_token()}
    except OSError as error:
        raise _not_served(options) from error


def _not_served(options: argparse.Namespace) -> HostError:
    """The system's faults in our words."""
    port = f"Port {options.port}" if options.port else "No port from 7860 on"
    verb = "cannot" if options.port else "can"
    message = f"{port} {verb} be used on {options.host}."
    return HostError(
        message, hint="It may be in use: choose another --port. --host must be an address of this computer."
    )


def _host(options: argparse.Namespace) -> CheckpointHost:
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
    host = CheckpointHost(Path(options.embeddings or EMBEDDINGS), checkpoint=checkpoint, models=models)
    if checkpoint is None:
        host.choose_any()
    return host
