"""The command line: `embedmerge`, which is `python -m lib_embedmerge`.

Every command makes one plain value (commands.py); `--json` prints it as it is, people get it as tables (tables.py).
Exit codes: 0 done, 1 the input's fault, 2 usage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from lib_embedmerge.cli.arguments import argument_parser
from lib_embedmerge.errors import EmbedMergeError

INPUT_FAULT = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Prints nothing else than the command's result, and faults to stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A Windows console may lack characters of a prompt; an escape in their place beats an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = argument_parser().parse_args(arguments)
    try:
        result = options.command(options)
    except EmbedMergeError as error:
        if options.json:
            print(json.dumps({"error": error.as_json()}, indent=2))
        else:
            print(error.render(), file=sys.stderr)
        return INPUT_FAULT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        # Only where tables are drawn is there a need for rich.
        from lib_embedmerge.cli import tables

        tables.draw(options.name_of_command, result)
    return 0
