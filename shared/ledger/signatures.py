"""Signatures of wake-ups: only holders of the key can wake a worker up."""

import hmac


def sign(key: bytes, *parts: str | int) -> str:
    """Return HMAC-SHA-256 over the parts, as 32 hex digits (128 bits).

    Args:
        key: The signing key.
        parts: Strings and integers, separated by NUL.
    """
    return hmac.digest(key, "\0".join(map(str, parts)).encode(), "sha256")[:16].hex()


def verify(signature: str, key: bytes, *parts: str | int) -> bool:
    """Verify a signature over these parts in constant time."""
    return hmac.compare_digest(signature.encode(), sign(key, *parts).encode())
