"""Signatures: only who holds the key can wake a worker up."""

import hmac


def sign(key: bytes, *parts: str | int) -> str:
    """HMAC-SHA-256 over the parts, as 32 hex digits (128 bits).

    Args:
        key: The signing key.
        parts: Strings and whole numbers; a NUL keeps neighbours apart.
    """
    return hmac.digest(key, "\0".join(map(str, parts)).encode(), "sha256")[:16].hex()


def verify(signature: str, key: bytes, *parts: str | int) -> bool:
    """Whether the signature is the key's over these parts, compared in constant time."""
    return hmac.compare_digest(signature.encode(), sign(key, *parts).encode())
