"""Throw random sources at the language: `python -m fuzz --sources 1000000 --seed 1`, from the folder tests."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from fuzz.checks import Checks
from fuzz.sources import Sources


def main() -> int:
    """Exit code 1 at the first source for which something does not hold; the source is printed."""
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("--sources", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    checks, started = Checks(), time.monotonic()
    for source in itertools.islice(Sources(options.seed), options.sources):
        try:
            checks.check(source)
        except BaseException:  # noqa: PERF203 -- each source is told by itself
            sys.stderr.write(f"{source!a}\n")
            raise
    sys.stdout.write(f"{options.sources:,} sources in {time.monotonic() - started:.0f} s: {checks.made}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
