"""HTTP basic authentication with logins of any characters."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping


def has_login(header: str | None, logins: Mapping[str, str]) -> bool:
    """Whether an Authorization header has one of the logins. The time this takes does not depend on how much is right.

    logins: user -> password. Browsers and curl send UTF-8, some libraries send Latin-1 if possible; both are accepted.
    """
    credentials = _decode_credentials(header)
    is_valid = False
    for user, password in logins.items():
        login = f"{user}:{password}"
        for encoded in (login.encode("utf-8", "surrogateescape"), _encode_latin(login)):
            is_valid |= encoded is not None and credentials is not None and secrets.compare_digest(credentials, encoded)
    return is_valid


def _decode_credentials(header: str | None) -> bytes | None:
    """The `user:password` in a header of basic authentication, or None for any other header."""
    scheme, _, encoded = (header or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip().encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None


def _encode_latin(login: str) -> bytes | None:
    try:
        return login.encode("latin-1")
    except UnicodeEncodeError:
        return None
