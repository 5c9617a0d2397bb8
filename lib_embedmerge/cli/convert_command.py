"""`embedmerge convert`: files of embeddings made into tagged safetensors files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def convert(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Write each embedding of these files as a safetensors file; one result for each that was written."""
    from lib_embedmerge.actions.converting import ConversionRequest
    from lib_embedmerge.actions.converting import convert as write

    folder = Path(options.output) if options.output else None
    request = ConversionRequest([Path(path) for path in options.paths], folder, options.name, options.force)
    return [one.as_json() for one in write(request)]
