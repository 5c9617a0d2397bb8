"""Handlers of the page's events: plain values from the widgets in, HTML out. Nothing here depends on gradio.

Heavy modules are imported when the first event needs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.groupings import Grouping  # imported here because gradio reads annotations
from lib_embedmerge.errors import EmbedMergeError, LookalikeError
from lib_embedmerge.ui.guards import as_answer, as_html, as_list, without_unprintable
from lib_embedmerge.ui.library_handlers import LibraryHandlers
from lib_embedmerge.ui.measuring_handlers import MeasuringHandlers
from lib_embedmerge.ui.optimising_handlers import OptimisingHandlers

if TYPE_CHECKING:
    from lib_embedmerge.actions.saving_values import SaveRequest
    from lib_embedmerge.actions.values import ReadingOptions
    from lib_embedmerge.hosts.port import Host
    from lib_embedmerge.lang.choices import Attention

ATTENTION_LABELS: dict[str, Attention] = {
    "remove brackets": "drop",
    "write as multiplication": "scale",
    "keep as characters": "keep",
}
"""Label on the page -> how attention in a prompt is read (lang/typed.py)."""


def find_attention(label: str) -> Attention:
    """How attention is read for a label of ATTENTION_LABELS; `drop` for any other text."""
    return ATTENTION_LABELS.get(label, "drop")


class Handlers:
    """Handlers of the page's events, for one host. Those of the page Library are in `library`, and those
    of measurements in `measuring`, and those of compressions, ports and repairs in `optimising`."""

    def __init__(self, host: Callable[[], Host], *, prompts: bool) -> None:
        """host: returns the host; first called at the first event.

        prompts: whether the page has prompt boxes that texts can be sent to.
        """
        self._host = host
        self._prompts = prompts
        self.library = LibraryHandlers(host)
        self.measuring = MeasuringHandlers(host)
        self.optimising = OptimisingHandlers(host)

    @as_answer
    def describe_model(self) -> Markup:
        """The status line about the active model."""
        from lib_embedmerge.actions.answering import describe_model
        from lib_embedmerge.ui.views.status_view import status_view

        return status_view(describe_model(self._host()))

    @as_answer
    def read_typed_text(self, source: str, by: Grouping, reading: ReadingOptions) -> Markup:
        """How the text in the text box is read: counter, parts, the first mistake.

        by: how its vectors are grouped into parts.
        """
        from lib_embedmerge.actions.active_checkpoint import find_meter_fault
        from lib_embedmerge.actions.answering import read_typed_text
        from lib_embedmerge.core.infotext import find_source_in_infotext
        from lib_embedmerge.ui.views.answer_view import answer_view

        host = self._host()
        answer = read_typed_text(host, source, by, reading)
        can_measure = answer.count > 0 and answer.error is None and find_meter_fault(host) is None
        return answer_view(answer, find_source_in_infotext(source), can_measure=can_measure)

    @as_answer
    def draw_vectors(self, source: str, by: Grouping, reading: ReadingOptions) -> Markup:
        """The vectors of the text, or nothing if another answer already says why there are none."""
        from lib_embedmerge.actions.answering import describe_model, read_typed_text
        from lib_embedmerge.actions.figures import measure_source
        from lib_embedmerge.lang.typed import read_typed
        from lib_embedmerge.ui.views.vectors_view import vectors_view

        host = self._host()
        try:
            figures = measure_source(host, source, by, reading=reading)
            kind = read_typed(source, reading.attention).kind
            return vectors_view(figures, source if kind == "expression" else None)
        except EmbedMergeError:
            if read_typed_text(host, source, by, reading).error or describe_model(host).error:
                return Markup("")
            raise

    @as_answer
    def check_name(self, name: str) -> Markup:
        """Whether an embedding can be saved under a name."""
        from lib_embedmerge.actions.saving import check_name
        from lib_embedmerge.ui.views.name_view import name_view

        return name_view(check_name(self._host(), name))

    @as_html
    def save(self, request: SaveRequest) -> Markup:
        """Save an embedding. The answer lists its files, or the existing files that the user would have to replace."""
        from lib_embedmerge.actions.saving import save
        from lib_embedmerge.ui.views.error_view import lookalike_view
        from lib_embedmerge.ui.views.saved_view import saved_view

        try:
            saved = save(self._host(), request)
        except LookalikeError as error:
            return lookalike_view(error)
        return saved_view(saved, targets=self._prompts)

    @as_html
    def show_report(self) -> Markup:
        """The facts for a bug report."""
        from lib_embedmerge.actions.reporting import report_in
        from lib_embedmerge.ui.views.report import report_view

        return report_view(report_in(self._host()))

    def complete(self, message: str) -> Markup:
        """What the text before the cursor may be completed to. message: the number of the question, and that text on
        the next lines."""
        number, _, before = message.partition("\n")
        return self._complete(number, before)

    @as_answer
    def _complete(self, before: str) -> Markup:
        from lib_embedmerge.actions.completing import complete
        from lib_embedmerge.ui.views.completion_view import completion_view

        return completion_view(complete(self._host(), before))

    @as_list
    def list_names(self) -> tuple[str, ...]:
        """Names of the embeddings that can be inspected; none if the folder cannot be read."""
        from lib_embedmerge.actions.inspecting import list_names

        return without_unprintable(list_names(self._host()))

    @as_html
    def inspect(self, name: str) -> Markup:
        """All about an embedding of the library; nothing for an empty name."""
        from lib_embedmerge.actions.inspecting import inspect_name
        from lib_embedmerge.ui.views.inspection_view import inspection_view

        return inspection_view(inspect_name(self._host(), name)) if name else Markup("")

    def inspect_place(self, message: str) -> Markup:
        """All about a file of the library. message: the number of the question, and its place on the next line."""
        number, _, place = message.partition("\n")
        return self._inspect_place(number, place)

    @as_answer
    def _inspect_place(self, place: str) -> Markup:
        from lib_embedmerge.actions.inspecting import inspect_place
        from lib_embedmerge.ui.views.inspection_view import inspection_view

        return inspection_view(inspect_place(self._host(), place))

    def inspect_dropped(self, message: str) -> Markup:
        """All about a file that was dropped into the page.

        message: JSON from the script, the number of its question and the file in the form of ui/dropped.py.
        """
        try:
            question, dropped = json.loads(message)
        except (ValueError, TypeError, RecursionError):
            question, dropped = "", message
        return self._inspect_dropped(str(question), str(dropped))

    @as_answer
    def _inspect_dropped(self, message: str) -> Markup:
        from lib_embedmerge.actions.inspecting import inspect_file
        from lib_embedmerge.ui.dropped import open_dropped_file
        from lib_embedmerge.ui.views.inspection_view import inspection_view

        with open_dropped_file(message) as (path, name):
            return inspection_view(inspect_file(self._host(), path, name))

    @as_html
    def fix(self, message: str) -> Markup:
        """Save a copy of the inspected embedding without its flaws. If its file exists, ask the user first.

        message: JSON from the script, a list: the name in the library, or an empty text for the dropped file; `yes` if
        the user has agreed to replace a file; the dropped file in the form of ui/dropped.py.
        """
        from lib_embedmerge.actions.fixing import fix_file, fix_name
        from lib_embedmerge.ui.dropped import open_dropped_file
        from lib_embedmerge.ui.views.inspection_view import fix_button
        from lib_embedmerge.ui.views.saved_view import saved_view

        name, agreed, dropped = _read_texts(message, 3)
        if name:
            saved = fix_name(self._host(), name, replace=agreed == "yes")
        else:
            with open_dropped_file(dropped) as (path, shown):
                saved = fix_file(self._host(), path, shown, replace=agreed == "yes")
        return saved_view(saved, targets=self._prompts, replace=fix_button("Replace it", name, replace=True))

    @as_list
    def list_checkpoints(self) -> tuple[str, ...]:
        """Checkpoints that exist now and can be chosen; none if the host has no chooser."""
        host = self._host()
        return without_unprintable(tuple(host.checkpoints())) if host.chooser else ()

    def find_chosen_checkpoint(self) -> str | None:
        """The checkpoint that is the active model, or None if there is none or the host has no chooser."""
        return next(iter(self._list_chosen()), None)

    @as_list
    def _list_chosen(self) -> tuple[str, ...]:
        chooser = self._host().chooser
        return without_unprintable((chooser.chosen,)) if chooser and chooser.chosen else ()

    @as_html
    def choose_checkpoint(self, checkpoint: str | None) -> Markup:
        """Make a checkpoint the active model, if the host has a chooser. The answer is empty, or says why it failed."""
        chooser = self._host().chooser
        if chooser is not None and checkpoint:
            chooser.choose(checkpoint)
        return Markup("")


def _read_texts(message: str, count: int) -> list[str]:
    """A list of this many texts in JSON; empty texts if it is not one."""
    try:
        values = json.loads(message)
    except (ValueError, TypeError, RecursionError):
        values = None
    if isinstance(values, list) and len(values) == count and all(isinstance(value, str) for value in values):
        return values
    return [""] * count
