"""Whether a web UI was started with its API, and who may use that."""

from __future__ import annotations


def is_wanted() -> bool:
    """Whether it runs with `--api`, or with nothing but an API: `--nowebui`."""
    from modules import shared

    options = shared.cmd_opts
    return bool(getattr(options, "api", False) or getattr(options, "nowebui", False))


def read_logins() -> dict[str, str]:
    """User -> password, of `--api-auth user:password,user2:password2`; none where everyone may use it.

    The web UI asks for them on its own routes alone (modules/api/api.py), not on those of extensions.
    """
    from modules import shared

    given = getattr(shared.cmd_opts, "api_auth", None)
    pairs = (login.partition(":") for login in given.split(",")) if given else ()
    return {user: password for user, _, password in pairs}
