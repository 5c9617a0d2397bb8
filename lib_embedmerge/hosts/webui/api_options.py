"""The command-line options of a web UI that concern its API: whether it is enabled, and the logins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def is_api_enabled() -> bool:
    """Whether the web UI was started with `--api`, or with `--nowebui`, which enables the API alone."""
    from modules import shared

    options = shared.cmd_opts
    return bool(getattr(options, "api", False) or getattr(options, "nowebui", False))


def read_logins() -> dict[str, str]:
    """User -> password, for every user whom the web UI's own API lets in. Empty if it requires no login.

    The web UI checks them on its own routes only (modules/api/api.py), not on those of extensions. The logins are in
    the option `--api-auth user:password,user2:password2`, or in SD.Next's `--auth` and the file of `--auth-file`.
    Raises OSError if that file cannot be read.
    """
    from modules import shared

    options = shared.cmd_opts
    logins = getattr(options, "api_auth", None)
    found = dict(_split_logins(logins.split(","))) if logins else {}
    if logins := getattr(options, "auth", None):
        found |= _split_unquoted(logins.split(","))
    if file := getattr(options, "auth_file", None):
        found |= _split_unquoted(Path(file).read_text(encoding="utf-8").splitlines())
    return found


def _split_logins(logins: Iterable[str]) -> Iterable[tuple[str, str]]:
    for login in logins:
        user, _, password = login.partition(":")
        yield user, password


def _split_unquoted(logins: Iterable[str]) -> dict[str, str]:
    """User -> password, as SD.Next reads them: without quotation marks, and without spaces around them."""
    unquoted = (login.replace('"', "") for login in logins if ":" in login)
    return {user.strip(): password.strip() for user, password in _split_logins(unquoted)}
