"""`embedmerge compare`: checkpoints by pairs, as plain values."""

from __future__ import annotations

import argparse
from typing import Any


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """How the checkpoints differ, one result for each pair."""
    from lib_embedmerge.actions.comparing import CompareRequest, compare_models
    from lib_embedmerge.cli.progress import progress_bar

    request = CompareRequest(options.source, options.embedding, options.embeddings, options.device, options.top)
    with progress_bar("Comparing", quiet=options.json) as progress:
        found = compare_models([options.first, *options.others], request, progress)
    return [comparison.as_json() for comparison in found]
