"""Which web UI this is and which version, for bug reports. Nothing else depends on it: what a web UI has is probed."""

from __future__ import annotations

import importlib
import sys

_MAX_VERSION = 100


def describe_program() -> str:
    """`Forge or a fork of it, f2.0.1v1.10.1-previous-665-gae278f79`: the family by what it loads models with."""
    return f"{_family()}, {_version() or 'of an unknown version'}"


def _family() -> str:
    from modules import sd_models

    if hasattr(sd_models.model_data, "forge_loading_parameters"):
        return "Forge or a fork of it"
    if "ldm_patched" in sys.modules or "modules_forge" in sys.modules:
        return "reForge or a fork of it"
    return "AUTOMATIC1111 or a fork of it"


def _version() -> str | None:
    """As the web UI shows it below its page."""
    try:
        tag = importlib.import_module("modules.launch_utils").git_tag()
    except Exception:  # noqa: BLE001 -- whatever another program does, a report must not fail for its version
        return None
    return str(tag).strip()[:_MAX_VERSION] if tag else None
