"""Whether a request brings a login that is known: HTTP's basic authentication, in any characters."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping


def has_login(header: str | None, logins: Mapping[str, str]) -> bool:
    """Whether an Authorization header holds one of the logins. How long that takes does not tell how near it was.

    logins: user -> password. Browsers and curl send UTF-8, some libraries Latin-1 where that can be; both are taken.
    """
    given = _credentials(header)
    found = False
    for user, password in logins.items():
        login = f"{user}:{password}"
        for wanted in (login.encode("utf-8", "surrogateescape"), _latin(login)):
            found |= wanted is not None and given is not None and secrets.compare_digest(given, wanted)
    return found


def _credentials(header: str | None) -> bytes | None:
    """What a header of basic authentication holds, `user:password`; None where it is none."""
    scheme, _, encoded = (header or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip().encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None


def _latin(login: str) -> bytes | None:
    try:
        return login.encode("latin-1")
    except UnicodeEncodeError:
        return None
