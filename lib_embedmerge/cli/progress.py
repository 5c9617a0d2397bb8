"""A progress bar on stderr, drawn only once there is something to wait for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lib_embedmerge.core.ports import Progress


@contextmanager
def progress_bar(title: str, *, quiet: bool, counted: bool = False) -> Iterator[Progress | None]:
    """Gives a Progress to hand on; the bar appears at its first call and goes when the block ends.

    quiet: no bar, as where a machine reads the output.  counted: with how many of how many, where these are of things
    that a person counts.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn
    from rich.progress import Progress as Bars

    columns = (*Bars.get_default_columns(), *([MofNCompleteColumn()] if counted else []))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None, visible=False)

        def show(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total, visible=True)

        yield show
