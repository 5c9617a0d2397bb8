"""The command line: `embedmerge`, which is `python -m lib_embedmerge`.

Every command makes one plain value (commands.py); `--json` prints it as it is, people get it as tables (tables.py).
Exit codes: 0 done, 1 the input's fault, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from lib_embedmerge.cli.arguments import argument_parser, check_usage
from lib_embedmerge.cli.commands import StoppedError
from lib_embedmerge.cli.path_arguments import check_paths
from lib_embedmerge.cli.remedies import REMEDIES
from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.files.disk_faults import describe_disk_fault

INPUT_FAULT = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Prints nothing else than the command's result, and faults to stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A Windows console may lack characters of a prompt; an escape in their place beats an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parser = argument_parser()
    options = parser.parse_args(arguments)
    check_usage(parser, options)
    code = 0
    try:
        check_paths(options)
        result = options.command(options)
        code = getattr(options, "exit_code", lambda _: 0)(result)
    except EmbedMergeError as error:
        error.word_remedy(REMEDIES)
        code, result = INPUT_FAULT, {"error": error.as_json()}
        if not options.json:
            print(error.render(), file=sys.stderr)
            return code
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        code, result = INTERRUPTED, stopped.result
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    try:
        _print(options, result)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, as in `| head`. Python flushes once more at its end, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"The result cannot be printed: {describe_disk_fault(error)}.", file=sys.stderr)
        return INPUT_FAULT
    if code == 0 and hasattr(options, "afterwards"):
        options.afterwards(result)
    return code


def _print(options: argparse.Namespace, result: object) -> None:
    if options.json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    # Only where tables are drawn is there a need for rich.
    from lib_embedmerge.cli import tables

    tables.draw(options, result)
