"""Read a typed text to build it, in the same way for every face. A text that is probably meant otherwise is refused."""

from __future__ import annotations

from lib_embedmerge.errors import LookalikeError
from lib_embedmerge.lang.choices import Attention, ReadAs
from lib_embedmerge.lang.typed import Typed, read_typed


def read_to_build(
    source: str, attention: Attention = "drop", read_as: ReadAs = "auto", *, insist: bool = False
) -> Typed:
    """Read a typed text that is to be built. ExpressionError, with its position in `source`, for the first mistake.

    LookalikeError for a prompt that looks like an expression, unless the user insists, because it would be built
    from its letters and signs.
    """
    typed = read_typed(source, attention, read_as)
    meant = typed.meant
    if meant is not None and meant.is_certain and not insist:
        raise LookalikeError(meant.reason, source=source, start=meant.start, end=meant.end, suggestion=meant.source)
    return typed
