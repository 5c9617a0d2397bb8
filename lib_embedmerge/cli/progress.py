"""A progress bar on stderr, which appears only when there is progress to show."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lib_embedmerge.core.ports import Progress


@contextmanager
def progress_bar(title: str, *, quiet: bool, counted: bool = False) -> Iterator[Progress | None]:
    """Gives a Progress for use in the `with` block, or None if no bar is wanted or stderr is not a terminal.

    The bar appears at the first call of the Progress and is removed when the block ends.
    quiet: whether to show no bar.  counted: whether to show the numbers, for things that people count.
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
