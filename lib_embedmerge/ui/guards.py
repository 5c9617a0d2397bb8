"""What every event of the page goes through: no fault ends in a stack trace there, and answers tell their questions.

Everything heavier than a string is imported when the first event needs it.
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
                return told(EmbedMergeError(UNEXPECTED, hint=UNEXPECTED_HINT))

        return answered

    return guarded


def _error(error: EmbedMergeError) -> Markup:
    from lib_embedmerge.ui.views.error_view import error_view

    return error_view(error)


def _none(_: EmbedMergeError) -> tuple[str, ...]:
    return ()


as_html = _faults(_error)
as_list = _faults(_none)


def as_answer(
    handler: Callable[Concatenate[_S, _P], Markup],
) -> Callable[Concatenate[_S, str, _P], Markup]:
    """As `as_html`; the event gets the number of a question first, and gives it back with the answer.

    So the script knows whether an answer is the newest one's.
    """
    guarded = as_html(handler)

    @functools.wraps(handler)
    def answered(self: _S, asked: str, /, *args: _P.args, **kwargs: _P.kwargs) -> Markup:
        from lib_embedmerge.ui.html import answer_to

        return answer_to(asked, guarded(self, *args, **kwargs))

    return answered


def without_unprintable(names: Sequence[str]) -> tuple[str, ...]:
    """Names that can be sent to a page. On Linux a file's name can be bytes that are no text: gradio fails on all for
    one."""
    return tuple(name for name in names if name.encode("utf-8", "ignore").decode() == name)
