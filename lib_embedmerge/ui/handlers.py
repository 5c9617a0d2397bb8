"""What happens on each event of the page: plain values from the widgets in, HTML out. Knows no gradio.

Everything heavier than a string is imported when the first event needs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.groupings import Grouping  # gradio looks at the types of what it calls
from lib_embedmerge.errors import EmbedMergeError, LookalikeError
from lib_embedmerge.ui.guards import as_answer, as_html, as_list, without_unprintable
from lib_embedmerge.ui.library_handlers import LibraryHandlers

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import ReadingOptions, SaveRequest
    from lib_embedmerge.hosts.port import Host
    from lib_embedmerge.lang.choices import Attention

ATTENTION_LABELS: dict[str, Attention] = {
    "remove brackets": "drop",
    "write as multiplication": "scale",
    "keep as characters": "keep",
}
"""What the page calls the ways to read attention in a prompt (lang/typed.py)."""


def find_attention(label: str) -> Attention:
    """The way that a label names; the first for any other text."""
    return ATTENTION_LABELS.get(label, "drop")


class Handlers:
    """The page's events over one host."""

    def __init__(self, host: Callable[[], Host], *, prompts: bool) -> None:
        """host: gives the host; asked at the first event, not before.
        prompts: whether there are prompt boxes on the page that texts can be sent to.
        The events of the page Library are `library`'s."""
        self._host = host
        self._prompts = prompts
        self.library = LibraryHandlers(host)

    @as_html
    def describe_model(self) -> Markup:
        """The active model."""
        from lib_embedmerge.actions.answering import describe_model
        from lib_embedmerge.ui.views.status_view import status_view

        return status_view(describe_model(self._host()))

    @as_answer
    def read_typed_text(self, source: str, by: Grouping, reading: ReadingOptions) -> Markup:
        """How the source is read."""
        from lib_embedmerge.actions.answering import read_typed_text
        from lib_embedmerge.core.infotext import find_source_in_infotext
        from lib_embedmerge.ui.views.answer_view import answer_view

        return answer_view(read_typed_text(self._host(), source, by, reading), find_source_in_infotext(source))

    @as_answer
    def vectors(self, source: str, by: Grouping, reading: ReadingOptions) -> Markup:
        """What the vectors look like; nothing if reading the text or the status line says why there are none."""
        from lib_embedmerge.actions.answering import describe_model, read_typed_text
        from lib_embedmerge.actions.figures import measure_source
        from lib_embedmerge.ui.views.vectors_view import vectors_view

        host = self._host()
        try:
            return vectors_view(measure_source(host, source, by, reading=reading))
        except EmbedMergeError:
            if read_typed_text(host, source, by, reading).error or describe_model(host).error:
                return Markup("")
            raise

    @as_answer
    def name(self, name: str) -> Markup:
        """Whether a name works."""
        from lib_embedmerge.actions.saving import check_name
        from lib_embedmerge.ui.views.name_view import name_view

        return name_view(check_name(self._host(), name))

    @as_html
    def save(self, request: SaveRequest, confirmed: Sequence[str] = ()) -> Markup:
        """Save, and tell what was written, or what stands in the way.

        confirmed: names whose files the user agreed to replace, whatever was typed since.
        """
        from lib_embedmerge.actions.saving import save
        from lib_embedmerge.ui.views.error_view import lookalike_view
        from lib_embedmerge.ui.views.saved_view import saved_view

        try:
            saved = save(self._host(), replace(request, agreed=frozenset(confirmed)))
        except LookalikeError as error:
            return lookalike_view(error)
        return saved_view(saved, targets=self._prompts)

    @as_html
    def report(self) -> Markup:
        """What a bug report needs."""
        from lib_embedmerge.actions.reporting import report_in
        from lib_embedmerge.ui.views.report import report_view

        return report_view(report_in(self._host()))

    @as_list
    def list_names(self) -> tuple[str, ...]:
        """Embeddings that can be inspected; none where the folder cannot be read."""
        from lib_embedmerge.actions.inspecting import list_names

        return without_unprintable(list_names(self._host()))

    @as_html
    def inspect(self, name: str) -> Markup:
        """An embedding of the library."""
        from lib_embedmerge.actions.inspecting import inspect_name
        from lib_embedmerge.ui.views.inspection_view import inspection_view

        return inspection_view(inspect_name(self._host(), name)) if name else Markup("")

    def inspect_dropped(self, said: str) -> Markup:
        """A file that was dropped in. said: JSON of the script, a question's number and the file (dropped.py)."""
        try:
            asked, dropped = json.loads(said)
        except (ValueError, TypeError, RecursionError):
            asked, dropped = "", said
        return self._inspect_dropped(str(asked), str(dropped))

    @as_answer
    def _inspect_dropped(self, said: str) -> Markup:
        from lib_embedmerge.actions.inspecting import inspect_file
        from lib_embedmerge.ui.dropped import dropped_file
        from lib_embedmerge.ui.views.inspection_view import inspection_view

        with dropped_file(said) as (path, name):
            return inspection_view(inspect_file(self._host(), path, name))

    @as_list
    def checkpoints(self) -> tuple[str, ...]:
        """What can be chosen, as it is there now; none where the host has no chooser."""
        host = self._host()
        return without_unprintable(tuple(host.checkpoints())) if host.chooser else ()

    def chosen(self) -> str | None:
        """The active one of `checkpoints`."""
        return next(iter(self._chosen()), None)

    @as_list
    def _chosen(self) -> tuple[str, ...]:
        chooser = self._host().chooser
        return without_unprintable((chooser.chosen,)) if chooser and chooser.chosen else ()

    @as_html
    def choose(self, checkpoint: str | None) -> Markup:
        """Make a checkpoint the active model, where the host has a chooser; gives why that failed, or nothing."""
        chooser = self._host().chooser
        if chooser is not None and checkpoint:
            chooser.choose(checkpoint)
        return Markup("")
