"""The secrets of a session: its token, and the proof that a page of ours sent a request."""

import hashlib
import hmac
import re
import secrets
from typing import Final

from producers.accounts.key_format import Peppers

PREFIX: Final = "als_"
_BYTES: Final = 32
_FORM: Final = re.compile(r"als_[A-Za-z0-9_-]{43}")


def new() -> str:
    """Make a token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def is_ours(token: str) -> bool:
    """Whether a text has the form of a token of ours."""
    return _FORM.fullmatch(token) is not None


def csrf(pepper: Peppers, token: str) -> tuple[str, ...]:
    """Return what a page sends beside its cookie to prove that it could read ours.

    It is made from the session's token, so another session's does not fit; one for each pepper, the
    first for new pages.
    """
    return tuple(
        hmac.new(one, b"csrf of " + token.encode(), hashlib.sha256).hexdigest()
        for one in pepper.secrets
    )
