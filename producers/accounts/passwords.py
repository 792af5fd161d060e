"""Passwords against the hashes that the platform has stored: bcrypt and argon2.

For nobody, the hash of somebody else is compared and the outcome dropped: that takes as long as for
a person whose hash is of the same kind and cost.
"""

from functools import cache
from typing import Final

import argon2
import bcrypt

CHARS_MAX: Final = 1_024
# As the platform's library does; what is longer is cut there as well.
_BCRYPT_BYTES_MAX: Final = 72
_BCRYPT: Final = ("$2a$", "$2b$", "$2y$")
_ROUNDS: Final = 10


def fits(password: str, stored: str | None, *, other: str | None) -> bool:
    """Whether a password is the one of a stored hash. Takes a tenth of a second of CPU.

    Args:
        password: As it was typed.
        stored: The platform's hash; None for nobody. What is not a hash, such as '!', fits nothing.
        other: Any hash, by which the same work is done where there is none.
    """
    if stored is not None and (stored.startswith(_BCRYPT) or stored.startswith("$argon2")):
        return _compare(password, stored)
    _compare(password, other or _of_nobody())
    return False


def _compare(password: str, stored: str) -> bool:
    try:
        if stored.startswith("$argon2"):
            return argon2.PasswordHasher().verify(stored, password)
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES_MAX], stored.encode())
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError, ValueError):
        return False


@cache
def _of_nobody() -> str:
    return bcrypt.hashpw(b"nobody's", bcrypt.gensalt(_ROUNDS)).decode()
