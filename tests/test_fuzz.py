"""A short run of the fuzzer (tests/fuzz)."""

from __future__ import annotations

import itertools

import pytest
from fuzz.checks import Checks
from fuzz.sources import Sources

COUNT = 4000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_any_source(seed: int) -> None:
    checks = Checks()
    for source in itertools.islice(Sources(seed), COUNT):
        try:
            checks.check(source)
        except Exception as error:  # noqa: PERF203 -- each source is told by itself
            raise AssertionError(f"{source!a}") from error
    assert all(checks.made.values()), "some kind of source was never made"
