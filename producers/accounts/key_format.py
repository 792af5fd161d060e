"""The text of an API key, and the hash that is stored of it.

A key is `aly_` + 8 letters that name it + `_` + 43 that are secret (256 bits) + 6 of a checksum, by
which a mistyped key is refused without a query and scanners of source code tell ours from others.
A secret of 256 random bits cannot be guessed, so a plain HMAC is enough: slow hashes are for what
people think of.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

_ALPHABET: Final = string.ascii_letters + string.digits
_NAME_CHARS, _SECRET_CHARS, _SUM_CHARS = 8, 43, 6  # 62 ** 43 > 2 ** 256
_FORM: Final = re.compile(
    rf"aly_[A-Za-z0-9]{{{_NAME_CHARS}}}_[A-Za-z0-9]{{{_SECRET_CHARS + _SUM_CHARS}}}"
)
_STORED: Final = re.compile(r"[0-9a-f]{8}:[0-9a-f]{64}")

_PLATFORM_HASHES: Final[Mapping[str, Callable[[str], str]]] = {
    "plain": lambda text: text,
    "sha256": lambda text: hashlib.sha256(text.encode()).hexdigest(),
}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that exists nowhere else yet."""

    prefix: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Peppers:
    """The secrets that keys are hashed with; the first makes new hashes, all are accepted.

    A hash begins with the version of its pepper: a few letters of the pepper's own hash, so that
    nobody numbers them.
    """

    secrets: tuple[bytes, ...] = field(repr=False)

    def hash(self, key: str) -> str:
        """Return what is stored of a new key: `version:hex`."""
        return _hash(self.secrets[0], key)

    def hashes(self, key: str) -> list[str]:
        """Return every form in which a key may be stored."""
        return [_hash(pepper, key) for pepper in self.secrets]


def new() -> NewKey:
    """Make a key."""
    name = "".join(secrets.choice(_ALPHABET) for _ in range(_NAME_CHARS))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARS))
    body = f"aly_{name}_{secret}"
    return NewKey(f"aly_{name}", body + _sum(body))


def is_ours(key: str) -> bool:
    """Whether a text has the form and the checksum of a key of ours."""
    return _FORM.fullmatch(key) is not None and hmac.compare_digest(
        key[-_SUM_CHARS:].encode(), _sum(key[:-_SUM_CHARS]).encode()
    )


def platform_forms(presented: str, platform_hash: str | None) -> list[str]:
    """Return in which form the platform stores a key or token of its own, if it may be presented.

    Args:
        presented: The whole text.
        platform_hash: `plain` or `sha256`; None accepts none of the platform's.
    """
    if platform_hash is None or is_hash(presented):
        return []
    return [_PLATFORM_HASHES[platform_hash](presented)]


def is_hash(text: str) -> bool:
    """Whether a text has the form of what is stored: it is not presented for what it is a hash of.

    Where the platform stores its own keys as they are, who reads a hash in the table could present
    that.
    """
    return _STORED.fullmatch(text) is not None


def _hash(pepper: bytes, key: str) -> str:
    version = hashlib.sha256(b"version of a pepper" + pepper).hexdigest()[:8]
    return f"{version}:{hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()}"


def _sum(body: str) -> str:
    number, letters = zlib.crc32(body.encode()), ""
    for _ in range(_SUM_CHARS):
        number, rest = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[rest]
    return letters
