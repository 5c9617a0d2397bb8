"""`embedmerge compare`: checkpoints by pairs, as plain values."""

from __future__ import annotations

import argparse
from typing import Any


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """How the checkpoints differ, one result for each pair."""
    from lib_embedmerge.actions.comparing import CompareRequest, compare_models
    from lib_embedmerge.cli.progress import progress_bar
    from lib_embedmerge.cli.standard_input import read_source

    source = None if options.source is None else read_source(options.source)
    request = CompareRequest(source, options.embedding, options.embeddings, options.device, options.top)
    with progress_bar("Comparing", quiet=options.json) as progress:
        found = compare_models([options.first, *options.others], request, progress)
    return [comparison.as_json() for comparison in found]
