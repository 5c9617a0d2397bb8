"""What a user typed, read for every face in the same way, and stopped where it is hardly meant as it reads."""

from __future__ import annotations

from lib_embedmerge.errors import LookalikeError
from lib_embedmerge.lang.choices import Attention, ReadAs
from lib_embedmerge.lang.typed import Typed, read_typed


def read_to_build(
    source: str, attention: Attention = "drop", read_as: ReadAs = "auto", *, insist: bool = False
) -> Typed:
    """What a user typed, to be built. ExpressionError, with its place in `source`, for the first mistake.

    LookalikeError for a prompt that looks like an expression, unless the user insists: what was typed would be built
    letter by letter, operators and all.
    """
    typed = read_typed(source, attention, read_as)
    meant = typed.meant
    if meant is not None and meant.is_certain and not insist:
        raise LookalikeError(meant.reason, source=source, start=meant.start, end=meant.end, suggestion=meant.source)
    return typed
