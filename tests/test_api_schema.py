"""The HTTP API as schemathesis sees it: its answers are what its schema says, whatever it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

TESTS = Path(__file__).parent

OPERATIONS = (
    "POST /parse", "POST /build", "GET /show", "GET /list", "POST /rebuild", "GET /rebuild/{job}",
    "DELETE /rebuild/{job}", "POST /recover", "GET /recover/{job}", "DELETE /recover/{job}", "POST /compare",
    "POST /convert", "GET /convert/{job}", "DELETE /convert/{job}", "POST /restore", "GET /restore/{job}",
    "DELETE /restore/{job}",
    *(f"{method} /{name}{job}" for name in ("effect", "groups", "tokens", "shorten", "compress", "port", "repair")
      for method, job in (("POST", ""), ("GET", "/{job}"), ("DELETE", "/{job}"))),
)  # fmt: skip

CHECKS = {
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "positive_data_acceptance", "use_after_free",
    "ensure_resource_availability", "missing_required_header", "ignored_auth", "unsupported_method",
    "allow_header_conformance",
}  # fmt: skip
"""All that schemathesis has, but for the one of how long an answer takes."""

Found = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Found]:
    """What `asked_by_schemathesis.py` found of each operation, `free` and `known`."""
    folder = tmp_path_factory.mktemp("asked")
    program = [sys.executable, "-W", "error", str(TESTS / "asked_by_schemathesis.py"), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run(
        program, check=False, capture_output=True, text=True, encoding="utf-8", env=environment, cwd=folder, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_operations_are_asked(found: Mapping[str, Found]) -> None:
    assert set(found["free"]) == set(found["known"]) == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_is_asked(found: Mapping[str, Found], operation: str) -> None:
    """Requests that the schema allows, requests that it does not, methods that there are not, logins left out."""
    of_this = found["free"][operation]
    assert not of_this["faults"], "\n\n".join(of_this["faults"])
    assert set(of_this["checks"]) == CHECKS
    assert "401" in of_this["statuses"]
    assert set(of_this["statuses"]) & {"404", "422"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_there_is_answered(found: Mapping[str, Found], operation: str) -> None:
    """Good answers, which are what the schema says."""
    of_this = found["known"][operation]
    assert not of_this["faults"], "\n\n".join(of_this["faults"])
    assert set(of_this["checks"]) == CHECKS
    assert of_this["statuses"]["200"]
