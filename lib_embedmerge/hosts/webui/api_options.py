"""The command-line options of a web UI that concern its API: whether it is enabled, and the logins."""

from __future__ import annotations


def is_api_enabled() -> bool:
    """Whether the web UI was started with `--api`, or with `--nowebui`, which enables the API alone."""
    from modules import shared

    options = shared.cmd_opts
    return bool(getattr(options, "api", False) or getattr(options, "nowebui", False))


def read_logins() -> dict[str, str]:
    """User -> password, from `--api-auth user:password,user2:password2`. Empty if no login is required.

    The web UI checks them on its own routes only (modules/api/api.py), not on those of extensions.
    """
    from modules import shared

    logins = getattr(shared.cmd_opts, "api_auth", None)
    pairs = (login.partition(":") for login in logins.split(",")) if logins else ()
    return {user: password for user, _, password in pairs}
