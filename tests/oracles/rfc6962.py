"""Merkle trees as section 2.1 of RFC 6962 writes them: by recursion over whole lists."""

import hashlib


def _split(size):
    """The largest power of two below the size."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def tree_hash(leaves):
    """MTH of leaves that are hashed already."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def audit_path(leaves, m):
    """PATH(m, D[n])."""
    if len(leaves) <= 1:
        return []
    k = _split(len(leaves))
    if m < k:
        return [*audit_path(leaves[:k], m), tree_hash(leaves[k:])]
    return [*audit_path(leaves[k:], m - k), tree_hash(leaves[:k])]
