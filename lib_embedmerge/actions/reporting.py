"""The facts for a bug report: versions, the program, the model in use. They do not identify the user.

There are no folders, file names, titles of models or texts of the user. A model is described by its kind and the first
digits of its fingerprints, which are the same for everybody who has it. Nothing heavy is imported.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_embedmerge.errors import EmbedMergeError, escape_unprintable
from lib_embedmerge.hosts.host_parts import list_faults
from lib_embedmerge.version import __version__

if TYPE_CHECKING:
    from lib_embedmerge.core.ports import Model
    from lib_embedmerge.hosts.port import Host

PACKAGES = ("torch", "numpy", "transformers", "gradio", "ftfy", "safetensors", "rich")

_ROOT = Path(__file__).parents[2]
_PREFIX = 12
"""How many hex digits of a hash are reported."""


@dataclass(frozen=True)
class ReportedModel:
    """Facts about the model in use.

    kind: architecture, and the variant unless it is the base.  layout: how its file stores it, with dtypes.
    prediction_type: None if it is not known.  sha256: the first digits of the file's hash, None if it is not known.
    replaced_encoders: how many files replace its own text encoders.  vectors_from: as in hosts.port.ActiveModel.
    token_tables, text_encoders: encoder key -> the first digits of the fingerprint; empty if it was not measured.
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
    """The facts for a bug report.

    embedmerge: its version.  commit: the first digits of the Git commit, None if this is not a clone of the repository.
    python, system: versions.  packages: name -> version, None if it is not installed.
    program: the program in which EmbedMerge runs, None on the command line.
    parts: what EmbedMerge does in the program -> the names that it needs and the program lacks; none if all is there.
    faults: what else does not work there, one sentence each.
    devices: kinds that PyTorch can use; None if PyTorch is not loaded, which would take seconds.
    model: None if there is none to report, or if it cannot be used.  fault: why it cannot, or the class of the error.
    """

    embedmerge: str
    commit: str | None
    python: str
    system: str
    packages: Mapping[str, str | None]
    program: str | None = None
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    devices: tuple[str, ...] | None = None
    model: ReportedModel | None = None
    fault: str | None = None

    def as_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)

    def text(self) -> str:
        """The report as text to be copied, a line for each fact."""
        return "\n".join(f"{label}: {value}" for label, value in make_rows(self.as_json()).items())


def make_rows(report: Mapping[str, Any]) -> dict[str, str]:
    """Label -> text of one line, for each fact. report: a report as plain values, from `as_json`."""
    commit = f", commit {report['commit']}" if report["commit"] else ""
    rows = {
        "EmbedMerge": report["embedmerge"] + commit,
        "Python": report["python"],
        "system": report["system"],
        **{name: version or "not installed" for name, version in report["packages"].items()},
        "runs in": report["program"] or "the command line",
    }
    rows |= {f"can {task}": _list_missing(missing) for task, missing in report["parts"].items()}
    if report["faults"]:
        rows["does not work"] = " ".join(report["faults"])
    if report["devices"] is not None:
        rows["devices"] = ", ".join(report["devices"])
    if report["fault"]:
        rows["model"] = f"cannot be used: {report['fault']}"
    return rows | (_make_model_rows(report["model"]) if report["model"] else {})


def report() -> Report:
    """A report without a program and a model."""
    return Report(
        embedmerge=__version__,
        commit=_read_commit(_ROOT),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=platform.platform(),
        packages={name: _find_version(name) for name in PACKAGES},
        devices=_find_devices(),
    )


def report_in(host: Host) -> Report:
    """A report with the host's program and its active model."""
    parts = {part.task: part.find_missing() for part in host.parts}
    found = replace(report(), program=escape_unprintable(host.program), parts=parts, faults=tuple(list_faults()))
    try:
        active = host.active()
        return replace(found, model=make_reported_model(active.model, active.vectors_from))
    except EmbedMergeError as error:  # whose message can have names
        return replace(found, fault=type(error).__name__)


def report_on(model: Model) -> Report:
    """A report with a model that was opened from its file."""
    return replace(report(), model=make_reported_model(model, "the checkpoint file"))


def report_of_fault(error: EmbedMergeError, path: Path) -> Report:
    """A report with the error that says why a model cannot be used.

    path: the model's file or folder. Its name is removed from the message.
    """
    names = {path.name, path.resolve().name}

    def hide_name(match: re.Match[str]) -> str:
        has_name = "/" in match[2] or any(name and name in match[2] for name in names)
        return f"{match[1]}FILE{match[1]}" if has_name else match[0]

    return replace(report(), fault=re.sub(r"""(['"])(.+?)\1""", hide_name, error.message))


def make_reported_model(model: Model, vectors_from: str) -> ReportedModel:
    """The facts about a model. Fingerprints are only reported if they are known; nothing is measured."""
    facts = model.facts
    fingerprints = model.fingerprints() if model.has_fingerprints else {}
    return ReportedModel(
        kind=facts.family,
        layout=facts.layout,
        prediction_type=facts.prediction_type,
        zero_terminal_snr=facts.zero_terminal_snr,
        sha256=facts.sha256 and facts.sha256[:_PREFIX],
        replaced_encoders=len(facts.text_encoder_files),
        vectors_from=vectors_from,
        token_tables={key: prints.token_table[:_PREFIX] for key, prints in fingerprints.items()},
        text_encoders={
            key: prints.text_encoder[:_PREFIX]
            for key, prints in fingerprints.items()
            if prints.text_encoder is not None
        },
        warnings=facts.warnings,
    )


def _make_model_rows(model: Mapping[str, Any]) -> dict[str, str]:
    prediction = model["prediction_type"] or "not known"
    rows = {
        "model": ", ".join(part for part in (model["kind"], model["layout"]) if part),
        "prediction": prediction + (", zero terminal SNR" if model["zero_terminal_snr"] else ""),
        "vectors from": model["vectors_from"],
        "checkpoint": model["sha256"] or "not measured",
        "token tables": _join_hashes(model["token_tables"]),
        "text encoders": _join_hashes(model["text_encoders"]),
        "replaced text encoders": str(model["replaced_encoders"]),
    }
    return rows | ({"warnings": " ".join(model["warnings"])} if model["warnings"] else {})


def _list_missing(names: Sequence[str]) -> str:
    return f"no, it lacks {', '.join(names)}" if names else "yes"


def _join_hashes(hashes: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {digits}" for key, digits in hashes.items()) or "not measured"


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _find_devices() -> tuple[str, ...] | None:
    """The kinds of devices that PyTorch can use, or None if it is not loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    found = [name for name in ("cuda", "xpu") if hasattr(torch, name) and getattr(torch, name).is_available()]
    mps = getattr(getattr(torch, "backends", None), "mps", None)
    return ("cpu", *found, *(["mps"] if mps is not None and mps.is_available() else []))


def _read_commit(root: Path) -> str | None:
    """The first digits of a clone's commit, read from its files, so that the program `git` is not needed; else None."""
    with contextlib.suppress(OSError, ValueError):
        git = root / ".git"
        if git.is_file():  # a worktree
            git = root / git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = _read_reference(git, head.removeprefix("ref: "))
        return head[:_PREFIX] if re.fullmatch(r"[0-9a-f]{40,64}", head) else None
    return None


def _read_reference(git: Path, name: str) -> str:
    common = git / "commondir"
    shared = git / common.read_text(encoding="utf-8").strip() if common.is_file() else git
    if (shared / name).is_file():
        return (shared / name).read_text(encoding="utf-8").strip()
    packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")
