"""What a bug report needs: versions, the program, the model in use. Nothing in it says who or where somebody is.

No folder, no file name, no title of a model, no text of a user: a model is described by its kind and by the beginnings
of its fingerprints, which are the same for everybody who has it. Nothing heavy is imported for it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_embedmerge.errors import EmbedMergeError, escape_unprintable
from lib_embedmerge.version import __version__

if TYPE_CHECKING:
    from lib_embedmerge.core.ports import Model
    from lib_embedmerge.hosts.port import Host

PACKAGES = ("torch", "numpy", "transformers", "gradio", "ftfy", "safetensors", "rich")

_ROOT = Path(__file__).parents[2]
_PREFIX = 12
"""Hex digits of a hash that are given."""


@dataclass(frozen=True)
class ReportedModel:
    """The model in use, by what it is.

    kind: architecture, with the variant where it is not the base one.  layout: how its file stores it, dtypes included.
    prediction_type: None where it is not known.  sha256: the first digits of the whole file's, None where not known.
    replaced_encoders: how many files replace text encoders of its own.  vectors_from: as in hosts.port.ActiveModel.
    token_tables, text_encoders: encoder key -> the first digits of the fingerprint; empty where none was measured.
    """

    kind: str
    layout: str
    prediction_type: str | None
    zero_terminal_snr: bool
    sha256: str | None
    replaced_encoders: int
    vectors_from: str
    token_tables: Mapping[str, str]
    text_encoders: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What a bug report needs.

    embedmerge: its version.  commit: the first digits of the Git commit, None where it is no clone of the repository.
    python, system: versions.  packages: name -> version, None where it is not installed.
    program: what EmbedMerge runs in, None on the command line.
    devices: kinds that PyTorch can use; None where it is not loaded, which takes seconds.
    model: None where none was asked for, or where it cannot be used.  fault: why, or the kind of error that says why.
    """

    embedmerge: str
    commit: str | None
    python: str
    system: str
    packages: Mapping[str, str | None]
    program: str | None = None
    devices: tuple[str, ...] | None = None
    model: ReportedModel | None = None
    fault: str | None = None

    def as_json(self) -> dict[str, Any]:
        """All fields, plain."""
        return asdict(self)

    def text(self) -> str:
        """In words, to be copied: a line for each fact."""
        return "\n".join(f"{label}: {value}" for label, value in rows_of(self.as_json()).items())


def rows_of(report: Mapping[str, Any]) -> dict[str, str]:
    """A report's facts in words, label -> text of one line. report: as `as_json` gives it."""
    commit = f", commit {report['commit']}" if report["commit"] else ""
    rows = {
        "EmbedMerge": report["embedmerge"] + commit,
        "Python": report["python"],
        "system": report["system"],
        **{name: version or "not installed" for name, version in report["packages"].items()},
        "runs in": report["program"] or "the command line",
    }
    if report["devices"] is not None:
        rows["devices"] = ", ".join(report["devices"])
    if report["fault"]:
        rows["model"] = f"cannot be used: {report['fault']}"
    return rows | (_model_rows(report["model"]) if report["model"] else {})


def report() -> Report:
    """Without a program and without a model."""
    return Report(
        embedmerge=__version__,
        commit=_commit(_ROOT),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=platform.platform(),
        packages={name: _version_of(name) for name in PACKAGES},
        devices=_devices(),
    )


def report_in(host: Host) -> Report:
    """With the program that this runs in and its active model."""
    found = replace(report(), program=escape_unprintable(host.program))
    try:
        active = host.active()
        return replace(found, model=reported_model(active.model, active.vectors_from))
    except EmbedMergeError as error:  # whose message can have names
        return replace(found, fault=type(error).__name__)


def report_on(model: Model) -> Report:
    """With a model that was opened from its file."""
    return replace(report(), model=reported_model(model, "the checkpoint file"))


def report_of_fault(error: EmbedMergeError, path: Path) -> Report:
    """With why the model in a file cannot be used. path: of that file or folder, whose name is left out."""
    names = {path.name, path.resolve().name}

    def hidden(match: re.Match[str]) -> str:
        has_name = "/" in match[2] or any(name and name in match[2] for name in names)
        return f"{match[1]}FILE{match[1]}" if has_name else match[0]

    return replace(report(), fault=re.sub(r"""(['"])(.+?)\1""", hidden, error.message))


def reported_model(model: Model, vectors_from: str) -> ReportedModel:
    """What to say of a model. Measures nothing: fingerprints are given where they are known."""
    facts = model.facts
    fingerprints = model.fingerprints() if model.has_fingerprints else {}
    return ReportedModel(
        kind=facts.architecture.title + ("" if facts.variant in ("base", "refiner") else f" {facts.variant}"),
        layout=facts.layout,
        prediction_type=facts.prediction_type,
        zero_terminal_snr=facts.zero_terminal_snr,
        sha256=facts.sha256 and facts.sha256[:_PREFIX],
        replaced_encoders=len(facts.text_encoder_files),
        vectors_from=vectors_from,
        token_tables={key: one.token_table[:_PREFIX] for key, one in fingerprints.items()},
        text_encoders={
            key: one.text_encoder[:_PREFIX] for key, one in fingerprints.items() if one.text_encoder is not None
        },
        warnings=facts.warnings,
    )


def _model_rows(model: Mapping[str, Any]) -> dict[str, str]:
    prediction = model["prediction_type"] or "not known"
    rows = {
        "model": ", ".join(part for part in (model["kind"], model["layout"]) if part),
        "prediction": prediction + (", zero terminal SNR" if model["zero_terminal_snr"] else ""),
        "vectors from": model["vectors_from"],
        "checkpoint": model["sha256"] or "not measured",
        "token tables": _listed(model["token_tables"]),
        "text encoders": _listed(model["text_encoders"]),
        "replaced text encoders": str(model["replaced_encoders"]),
    }
    return rows | ({"warnings": " ".join(model["warnings"])} if model["warnings"] else {})


def _listed(hashes: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {digits}" for key, digits in hashes.items()) or "not measured"


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> tuple[str, ...] | None:
    """Asked of PyTorch where it is loaded already."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    found = [name for name in ("cuda", "xpu") if hasattr(torch, name) and getattr(torch, name).is_available()]
    mps = getattr(getattr(torch, "backends", None), "mps", None)
    return ("cpu", *found, *(["mps"] if mps is not None and mps.is_available() else []))


def _commit(root: Path) -> str | None:
    """The commit that a clone is at, read off its files: the program `git` need not be there."""
    with contextlib.suppress(OSError, ValueError):
        git = root / ".git"
        if git.is_file():  # a worktree
            git = root / git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = _commit_of(git, head.removeprefix("ref: "))
        return head[:_PREFIX] if re.fullmatch(r"[0-9a-f]{40,64}", head) else None
    return None


def _commit_of(git: Path, name: str) -> str:
    common = git / "commondir"
    shared = git / common.read_text(encoding="utf-8").strip() if common.is_file() else git
    if (shared / name).is_file():
        return (shared / name).read_text(encoding="utf-8").strip()
    packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")
