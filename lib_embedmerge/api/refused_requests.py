"""Reasons to refuse a request, and their HTTP statuses."""

from __future__ import annotations

from lib_embedmerge.actions.background_jobs import AlreadyRunningError, NoSuchJobError
from lib_embedmerge.errors import EmbedMergeError, HostError, Remedies, Remedy, TakenError

LOGIN, OUTSIDE, MISSING, METHOD, CONFLICT = 401, 403, 404, 405, 409
TOO_LARGE, NOT_JSON, WRONG, BUG, UNREADY = 413, 415, 422, 500, 503

STATUSES = {
    LOGIN: "The login is missing or wrong.",
    OUTSIDE: "The path is outside the folders of embeddings and checkpoints.",
    MISSING: "There is no such embedding, checkpoint or rebuild.",
    CONFLICT: "An embedding of that name already exists, or a rebuild is already running.",
    TOO_LARGE: "The request is larger than 1 MB.",
    NOT_JSON: "The request is not JSON.",
    WRONG: "The request is invalid, or cannot be done with this model.",
    BUG: "An error in EmbedMerge. The console shows more.",
    UNREADY: "No model is loaded, or a Python package is missing.",
}
"""HTTP status of a refusal -> what it means, for people. METHOD is missing, since it does not depend on the route."""

REMEDIES: Remedies = {
    Remedy.OVERWRITE: "To overwrite it, set `overwrite`.",
    Remedy.SPLIT: "To split it, set `split`.",
    Remedy.READ_AS_PROMPT: "To build it as a prompt anyway, set `read_as` to `prompt`.",
}
"""What the API says about how to solve an error: a sentence for each remedy."""

_STATUS_OF_ERROR: dict[type[EmbedMergeError], int] = {
    AlreadyRunningError: CONFLICT, NoSuchJobError: MISSING, TakenError: CONFLICT, HostError: UNREADY,
}  # fmt: skip


class RefusedError(EmbedMergeError):
    """The error for a request that is refused. status: the HTTP status of the answer."""

    def __init__(self, status: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def find_status(error: EmbedMergeError) -> int:
    """The HTTP status of the answer to an error."""
    return error.status if isinstance(error, RefusedError) else _STATUS_OF_ERROR.get(type(error), WRONG)
