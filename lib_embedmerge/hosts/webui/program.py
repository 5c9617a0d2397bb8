"""The name and version of the web UI, for bug reports. No other code depends on them; capabilities are probed."""

from __future__ import annotations

import importlib
import sys

_MAX_VERSION = 100


def describe_program() -> str:
    """The web UI's family and version, for example `Forge or a fork of it, f2.0.1v1.10.1-previous-665-gae278f79`."""
    return f"{_find_family()}, {_read_version() or 'of an unknown version'}"


def _find_family() -> str:
    """The family of web UIs, recognised by how it loads models."""
    from modules import sd_models

    if hasattr(sd_models.model_data, "forge_loading_parameters"):
        return "Forge or a fork of it"
    if "ldm_patched" in sys.modules or "modules_forge" in sys.modules:
        return "reForge or a fork of it"
    return "AUTOMATIC1111 or a fork of it"


def _read_version() -> str | None:
    """The version that the web UI shows at the bottom of its page, or None if it cannot be read."""
    try:
        tag = importlib.import_module("modules.launch_utils").git_tag()
    except Exception:  # noqa: BLE001 -- whatever another program does, a report must not fail for its version
        return None
    return str(tag).strip()[:_MAX_VERSION] if tag else None
