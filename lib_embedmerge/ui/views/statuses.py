"""How well embeddings fit, in colours, and what a list of them can be filtered by. Light: the tab is drawn with it."""

from __future__ import annotations

STATUS_KINDS = {
    # recipes.fit's status -> kind of note; named by their texts, since that module is about tensors
    "made for this model": "good",
    "same vectors": "good",
    "differs": "warning",
    "from token rows of this model": "good",
    "unknown origin": "quiet",
    "other architecture": "bad",
}

UNUSABLE = "cannot be used"
UNMEASURED = "not measured"
ALL = "all"
STATUSES = (ALL, *STATUS_KINDS, UNUSABLE, UNMEASURED)
"""What the list can be filtered by."""
