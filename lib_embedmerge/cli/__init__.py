"""The command line: `embedmerge`, which is `python -m lib_embedmerge`.

Every command returns one plain value (commands.py). `--json` prints it as JSON; tables.py draws it for people.
Exit codes: 0 for success, 1 for an error in the input, 2 for wrong usage, 130 after Ctrl+C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from lib_embedmerge.cli.arguments import check_usage, make_argument_parser
from lib_embedmerge.cli.commands import StoppedError
from lib_embedmerge.cli.path_arguments import check_paths
from lib_embedmerge.cli.remedies import REMEDIES
from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.files.disk_faults import describe_disk_fault

INPUT_ERROR = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. Only its result goes to stdout; errors go to stderr.

    arguments: without the program's name; None for those of the process. SystemExit for wrong usage.
    """
    for stream in (sys.stdout, sys.stderr):
        # A Windows console may lack characters of a prompt. They are printed as escapes instead of raising an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parser = make_argument_parser()
    options = parser.parse_args(arguments)
    check_usage(parser, options)
    code = 0
    try:
        check_paths(options)
        result = options.command(options)
        code = getattr(options, "exit_code", lambda _: 0)(result)
    except EmbedMergeError as error:
        error.word_remedy(REMEDIES)
        code, result = INPUT_ERROR, {"error": error.as_json()}
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
        _print_result(options, result)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as `| head` does. Python flushes again when it ends, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"The result cannot be printed: {describe_disk_fault(error)}.", file=sys.stderr)
        return INPUT_ERROR
    if code == 0 and hasattr(options, "afterwards"):
        options.afterwards(result)
    return code


def _print_result(options: argparse.Namespace, result: object) -> None:
    if options.json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    # Imported here, because only tables need rich.
    from lib_embedmerge.cli import tables

    tables.draw(options, result)
