"""What happens on each event of the page: plain values from the widgets in, HTML out. Knows no gradio.

Everything heavier than a string is imported when the first event needs it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from markupsafe import Markup

from lib_embedmerge.core.groupings import Grouping  # gradio looks at the types of what it calls
from lib_embedmerge.errors import EmbedMergeError

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import SaveRequest
    from lib_embedmerge.hosts.port import Host

_log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

UNEXPECTED = "Something went wrong inside EmbedMerge."


def _faults(told: Callable[[EmbedMergeError], _T]) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """The one place where errors become part of the page: no event ever ends in a stack trace there."""

    def guarded(handler: Callable[_P, _T]) -> Callable[_P, _T]:
        @functools.wraps(handler)
        def answered(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                return handler(*args, **kwargs)
            except EmbedMergeError as error:
                return told(error)
            except Exception:  # noqa: BLE001 -- the one catch of this face: a bug of ours is logged, told in a sentence
                _log.exception(UNEXPECTED)
                return told(EmbedMergeError(UNEXPECTED, hint="The console says more; please report it."))

        return answered

    return guarded


def _error(error: EmbedMergeError) -> Markup:
    from lib_embedmerge.ui.views.errors import error_view

    return error_view(error)


def _none(_: EmbedMergeError) -> tuple[str, ...]:
    return ()


_as_html = _faults(_error)
_as_list = _faults(_none)


def _numbered(asked: str, content: Markup) -> Markup:
    """An answer with the number of its question, so that the script knows whether it is the newest one's."""
    from lib_embedmerge.ui.html import answer_to

    return answer_to(asked, content)


def _sayable(names: Sequence[str]) -> tuple[str, ...]:
    """Names that can be sent to a page. On Linux a file's name can be bytes that are no text: gradio fails on all for
    one."""
    return tuple(name for name in names if name.encode("utf-8", "ignore").decode() == name)


class Handlers:
    """The page's events over one host."""

    def __init__(self, host: Callable[[], Host], *, prompts: bool) -> None:
        """host: gives the host; asked at the first event, not before.
        prompts: whether there are prompt boxes on the page that texts can be sent to."""
        self._host = host
        self._prompts = prompts

    @_as_html
    def status(self) -> Markup:
        """The active model."""
        from lib_embedmerge.actions.answering import status
        from lib_embedmerge.ui.views.status import status_view

        return status_view(status(self._host()))

    def answer(self, source: str, by: Grouping, asked: str) -> Markup:
        """How the source is read. asked: a number of the script's, which comes back with the answer."""
        return _numbered(asked, self._answer(source, by))

    def vectors(self, source: str, by: Grouping, asked: str) -> Markup:
        """What the vectors look like; nothing where `answer` or `status` says why there are none. asked: as there."""
        return _numbered(asked, self._vectors(source, by))

    def name(self, name: str, asked: str) -> Markup:
        """Whether a name works. asked: as in `answer`."""
        return _numbered(asked, self._name(name))

    @_as_html
    def _answer(self, source: str, by: Grouping) -> Markup:
        from lib_embedmerge.actions.answering import answer
        from lib_embedmerge.core.infotext import source_of_infotext
        from lib_embedmerge.ui.views.answer import answer_view

        return answer_view(answer(self._host(), source, by), source_of_infotext(source))

    @_as_html
    def _vectors(self, source: str, by: Grouping) -> Markup:
        from lib_embedmerge.actions.answering import answer, status
        from lib_embedmerge.actions.figures import figures_of_source
        from lib_embedmerge.ui.views.vectors import vectors_view

        host = self._host()
        try:
            return vectors_view(figures_of_source(host, source, by))
        except EmbedMergeError:
            if answer(host, source, by).error or status(host).error:
                return Markup("")
            raise

    @_as_html
    def _name(self, name: str) -> Markup:
        from lib_embedmerge.actions.saving import check_name
        from lib_embedmerge.ui.views.naming import name_view

        return name_view(check_name(self._host(), name))

    @_as_html
    def save(self, request: SaveRequest, confirmed: Sequence[str] = ()) -> Markup:
        """Save, and tell what was written, or what stands in the way.

        confirmed: names whose files may be replaced. The request is not to ask for that by itself: what the user has
        agreed to is these, whatever was typed since.
        """
        from lib_embedmerge.actions.saving import save
        from lib_embedmerge.ui.views.saved import saved_view

        saved = save(self._host(), request)
        if saved.existing and set(saved.existing) <= set(confirmed):
            saved = save(self._host(), replace(request, overwrite=True))
        return saved_view(saved, targets=self._prompts)

    @_as_list
    def names(self) -> tuple[str, ...]:
        """Embeddings that can be inspected; none where the folder cannot be read."""
        from lib_embedmerge.actions.inspecting import names

        return _sayable(names(self._host()))

    @_as_html
    def inspect(self, name: str) -> Markup:
        """An embedding of the library."""
        from lib_embedmerge.actions.inspecting import inspect_name
        from lib_embedmerge.ui.views.inspection import inspection_view

        return inspection_view(inspect_name(self._host(), name)) if name else Markup("")

    @_as_html
    def inspect_file(self, path: str, shown_name: str) -> Markup:
        """A file that was dropped in."""
        from lib_embedmerge.actions.inspecting import inspect_file
        from lib_embedmerge.ui.views.inspection import inspection_view

        return inspection_view(inspect_file(self._host(), Path(path), shown_name))

    @_as_list
    def checkpoints(self) -> tuple[str, ...]:
        """What can be chosen, as it is there now; none where the host has no chooser."""
        host = self._host()
        return _sayable(tuple(host.checkpoints())) if host.chooser else ()

    def chosen(self) -> str | None:
        """The active one of `checkpoints`."""
        return next(iter(self._chosen()), None)

    @_as_list
    def _chosen(self) -> tuple[str, ...]:
        chooser = self._host().chooser
        return _sayable((chooser.chosen,)) if chooser and chooser.chosen else ()

    @_as_html
    def choose(self, checkpoint: str | None) -> Markup:
        """Make a checkpoint the active model, where the host has a chooser; gives why that failed, or nothing."""
        chooser = self._host().chooser
        if chooser is not None and checkpoint:
            chooser.choose(checkpoint)
        return Markup("")
