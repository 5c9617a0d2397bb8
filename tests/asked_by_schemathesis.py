"""A program for test_api_schema.py: schemathesis asks the API of a small host, and prints as JSON what it found.

A program of its own, for schemathesis works in threads, in which pytest should not rewrite what is imported, and brings
warnings of its own. The app is asked as it is, without a server.

    python asked_by_schemathesis.py FOLDER     # {"free": ..., "known": ...}

free: whatever the schema allows, and what it does not.  known: only what is there, so that the answers are good ones.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import schemathesis
from api_client import PREFIX, make_app
from models import encoders, with_rows_scaled, write_sdxl
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from lib_embedmerge.actions import background_jobs, jobs, library_jobs, measuring_jobs
from lib_embedmerge.actions.measuring_effect import EffectRequest
from lib_embedmerge.actions.optimised_files import Target
from lib_embedmerge.actions.optimising import CompressRequest
from lib_embedmerge.actions.optimising_jobs import OPTIMISING_JOBS
from lib_embedmerge.actions.restoring_folders import RestoreRequest
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.recipes.build import build_embedding

LOGIN = ("ann", "secret")

# A schema can tell neither which texts are expressions nor what a file can be called, what is there, or that two
# checkpoints are two; so of requests that it allows the API may say that they cannot be done. In `known` it may not.
FREE = {
    "max-examples": 20,
    "checks": {"positive_data_acceptance": {"expected-statuses": ["200", "403", "404", "409", "422"]}},
}
KNOWN = {
    "max-examples": 8,
    "mode": "positive",
    "checks": {"positive_data_acceptance": {"expected-statuses": ["200", "409"]}},  # 409: one rebuild runs at a time
}


def make_host(folder: Path) -> CheckpointHost:
    """`base` is active, `pony` has other rows; `one1` and `sub/two2` are there."""
    base = encoders()
    models = folder / "models"
    write_sdxl(models / "base.safetensors", base)
    write_sdxl(models / "pony.safetensors", with_rows_scaled(base, [2368]))
    host = CheckpointHost(folder / "embeddings", checkpoint=models / "base.safetensors", models=models)
    model = host.active().model
    build_embedding(model, "'cat'", "one1").save(host.embeddings_folder)
    build_embedding(model, "'cat'+'dog'", "two2").save(host.embeddings_folder / "sub")
    return host


def only_known(schema: dict[str, Any], rebuild: str, restore: str, measuring: str, optimising: str) -> None:
    """Have the schema allow what is there only. The other arguments are ids of jobs."""
    embeddings, checkpoints = ["one1", "two2", "sub/two2.safetensors"], ["base", "pony.safetensors"]
    bodies = schema["components"]["schemas"]
    for body, field, values in (
        ("ParseRequest", "source", ["a cat, by <one1>", "'cat'+'dog'*0.5", ""]),
        ("BuildRequest", "source", ["a cat, by <one1>", "'cat'+'dog'*0.5"]),
        ("BuildRequest", "name", ["made1", "made2"]),
        # A prompt is no expression.
        ("ParseRequest", "read_as", ["auto", "prompt"]),
        ("BuildRequest", "read_as", ["auto", "prompt"]),
        ("RebuildRequest", "embeddings", ["all", embeddings[:1], embeddings]),
        ("RebuildRequest", "checkpoints", [checkpoints, checkpoints[1:]]),
        ("RecoverRequest", "embedding", embeddings),
        ("RecoverRequest", "checkpoints", [None, checkpoints, checkpoints[1:]]),
        ("CompareRequest", "checkpoints", [checkpoints, ["pony", "base.safetensors"]]),
        ("ConvertRequest", "embeddings", [embeddings[:1], embeddings]),
        ("ConvertRequest", "to", ["sdxl"]),
        ("ConvertRequest", "checkpoint", checkpoints),
        ("ConvertRequest", "named_by", [None, *checkpoints]),
        ("RestoreLibraryRequest", "embeddings", ["all", embeddings[:1], embeddings]),
        ("RestoreLibraryRequest", "checkpoints", [checkpoints, checkpoints[1:]]),
        ("MeasureEffectRequest", "checkpoints", [checkpoints, ["pony", "base.safetensors"]]),
        ("MeasureEffectRequest", "source", ["a cat"]),
        ("MeasureEffectRequest", "embedding", [None]),
        ("MeasureGroupsRequest", "checkpoints", [checkpoints, checkpoints[1:]]),
        ("MeasureGroupsRequest", "embeddings", [[], embeddings]),
        ("MeasureGroupsRequest", "words", [[], ["a cat"]]),
        ("WeighTokensRequest", "source", ["a cat", "'cat'*2"]),
        ("WeighTokensRequest", "checkpoint", checkpoints),
        ("ShortenRequest", "source", ["a cat"]),
        ("ShortenRequest", "checkpoint", checkpoints),
        ("CompressVectorsRequest", "source", ["a cat"]),
        ("CompressVectorsRequest", "embedding", [None]),
        ("CompressVectorsRequest", "name", ["made3"]),
        ("CompressVectorsRequest", "checkpoint", checkpoints),
        ("PortVectorsRequest", "embedding", embeddings),
        ("PortVectorsRequest", "made_for", checkpoints),
        ("PortVectorsRequest", "to", checkpoints),
        ("PortVectorsRequest", "name", ["made4"]),
        ("RepairVectorsRequest", "embedding", embeddings),
        ("RepairVectorsRequest", "checkpoint", checkpoints),
        ("RepairVectorsRequest", "name", ["made5"]),
        # The text encoders of so small checkpoints cannot be run.
        ("CompareRequest", "source", [None]),
        ("CompareRequest", "embedding", [None]),
    ):
        bodies[body]["properties"][field] = {"enum": values}
    bodies["MeasureEffectRequest"]["required"] = ["checkpoints", "source"]  # the embedding is left out
    bodies["CompressVectorsRequest"]["required"] = ["source", "vectors", "checkpoint", "name"]
    queries = {"job": [rebuild], "embedding": embeddings, "checkpoint": checkpoints}
    for path, calls in schema["paths"].items():
        kind = path.removeprefix(PREFIX).split("/")[1]
        ids = {"rebuild": rebuild} | dict.fromkeys(("effect", "groups", "tokens", "shorten"), measuring)
        ids |= dict.fromkeys(("compress", "port", "repair"), optimising)
        known = {**queries, "job": [ids.get(kind, restore)]}
        for call in calls.values():
            for parameter in call.get("parameters", ()):
                if parameter["name"] in known:
                    parameter["schema"] = {"enum": known[parameter["name"]]}


def configuration(wanted: Mapping[str, Any]) -> SchemathesisConfig:
    """The same requests each time; nothing is kept on the disk. Every check that schemathesis has is on."""
    generation = {"max-examples": wanted["max-examples"], "deterministic": True, "database": "none"}
    if "mode" in wanted:
        generation["mode"] = wanted["mode"]
    settings = {
        "seed": 1,
        "workers": 1,
        "cache": {"enabled": False},
        # A path is a text, and there are few things that are none.
        "suppress-health-check": ["filter_too_much"],
        "generation": generation,
        "checks": wanted["checks"],
        "auth": {"basic": {"username": LOGIN[0], "password": LOGIN[1]}},
    }
    return SchemathesisConfig.from_dict(settings)


def asked(app: Any, wanted: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What was found of each operation, as `POST /parse`: statuses and checks counted, failures and errors in words."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=configuration(wanted))
    found: dict[str, dict[str, Any]] = {}
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            _of(found, event.label)["faults"].append(repr(event.value))
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            note(_of(found, event.label or event.phase.name), event)
    return found


def _of(found: dict[str, dict[str, Any]], label: str) -> dict[str, Any]:
    return found.setdefault(label.replace(PREFIX, ""), {"statuses": Counter(), "checks": Counter(), "faults": []})


def note(found: dict[str, Any], event: events.ScenarioFinished) -> None:
    for exchange in event.recorder.interactions.values():
        found["statuses"][exchange.response.status_code if exchange.response else 0] += 1
    for case, checks in event.recorder.checks.items():
        for check in checks:
            found["checks"][check.name] += 1
            if check.failure_info is not None:
                response = event.recorder.interactions[case].response
                answer = response.content[:500].decode("utf-8", "replace") if response else ""
                failure = check.failure_info
                found["faults"].append(f"{check.name}: {failure.failure}\n{failure.code_sample}\n{answer}")


T = TypeVar("T")


def _same(host: T) -> T:
    return host


def main(folder: Path) -> None:
    background_jobs._KEPT = 1_000_000  # or the one that is known is forgotten when many others were begun
    found = {}
    for which, wanted in (("free", FREE), ("known", KNOWN)):
        host = make_host(folder / which)
        app = make_app(partial(_same, host), dict([LOGIN]))
        if which == "known":
            nothing = RestoreRequest([], [], dry_run=True)
            measuring = measuring_jobs.MEASURING_JOBS.effect(host, [], EffectRequest("a cat"))
            rebuild, restore = jobs.JOBS.start(host, [], []), library_jobs.LIBRARY_JOBS.restore(host, nothing)
            wanted_file = CompressRequest(Target(host.embeddings_folder, "made3"), 1, "a cat")
            compression = OPTIMISING_JOBS.compress(host, wanted_file, next(iter(host.checkpoints().values())))
            only_known(app.openapi(), rebuild, restore, measuring, compression)
        found[which] = asked(app, wanted)
    library_jobs.LIBRARY_JOBS.cancel_all()
    for job in library_jobs.LIBRARY_JOBS._jobs.values():
        job.wait(60)
    for measurement in measuring_jobs.MEASURING_JOBS._jobs.values():
        measurement.cancel()
        measurement.wait(60)
    for optimised in OPTIMISING_JOBS._jobs.values():
        optimised.cancel()
        optimised.wait(60)
    for one in jobs.JOBS._jobs.values():
        one.cancel()
        one.wait(60)  # it writes into a folder that is removed
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
