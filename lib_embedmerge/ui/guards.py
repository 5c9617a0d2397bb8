"""Decorators for handlers of events: errors become part of the page, and answers carry the number of their question.

Heavy modules are imported when the first event needs them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from markupsafe import Markup

from lib_embedmerge.errors import UNEXPECTED, UNEXPECTED_HINT, EmbedMergeError

_log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_S = TypeVar("_S")
_T = TypeVar("_T")


def _catch_errors(answer: Callable[[EmbedMergeError], _T]) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """A decorator that returns `answer(error)` if the handler raises. Only here do errors become part of the page."""

    def decorate(handler: Callable[_P, _T]) -> Callable[_P, _T]:
        @functools.wraps(handler)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                return handler(*args, **kwargs)
            except EmbedMergeError as error:
                return answer(error)
            except Exception:  # noqa: BLE001 -- a bug: it is logged, and the user reads one sentence
                _log.exception(UNEXPECTED)
                return answer(EmbedMergeError(UNEXPECTED, hint=UNEXPECTED_HINT))

        return guarded

    return decorate


def _draw_error(error: EmbedMergeError) -> Markup:
    from lib_embedmerge.ui.views.error_view import error_view

    return error_view(error)


def _return_nothing(_: EmbedMergeError) -> tuple[str, ...]:
    return ()


as_html = _catch_errors(_draw_error)
"""Decorates a handler that returns markup: an error is drawn in its place."""

as_list = _catch_errors(_return_nothing)
"""Decorates a handler that returns a list of choices: an error gives an empty list."""


def as_answer(
    handler: Callable[Concatenate[_S, _P], Markup],
) -> Callable[Concatenate[_S, str, _P], Markup]:
    """As `as_html`, for events of which the script numbers its questions. The number becomes the first argument.

    The markup contains the number, from which the script knows whether the answer belongs to its latest question.
    """
    guarded = as_html(handler)

    @functools.wraps(handler)
    def answer(self: _S, question: str, /, *args: _P.args, **kwargs: _P.kwargs) -> Markup:
        from lib_embedmerge.ui.html import answer_to

        return answer_to(question, guarded(self, *args, **kwargs))

    return answer


def without_unprintable(names: Sequence[str]) -> tuple[str, ...]:
    """The names that can be sent to a page. On Linux the name of a file may be bytes that are not UTF-8, and one such
    name would make gradio fail on the whole list."""
    return tuple(name for name in names if name.encode("utf-8", "ignore").decode() == name)
