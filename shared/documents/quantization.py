"""Binary quantization for vector search: signs after one fixed rotation."""

import hashlib
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 1536
_BLOCK: Final = 512
_ROUNDS: Final = 2
_OUTER: Final = 16  # 16 x 32 = 512: a Hadamard matrix of 512 is the product of these two
_INNER: Final = 32


def rotate(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rotate rows by one fixed orthogonal matrix, so that every sign carries information.

    Zero-padded vectors say nothing in two thirds of their signs; after the rotation each
    sign is one random-looking half space. The rotation never changes: stored bits depend on it.

    Args:
        rows: Shape (n, 1536), float32.

    Returns:
        A new array of shape (n, 1536), float32, with the lengths and angles of `rows`.

    Source: fast Johnson-Lindenstrauss transform (Ailon and Chazelle 2006): random signs, then
    Walsh-Hadamard; here on 3 blocks of 512, which a 3 x 3 reflection mixes, two times over.
    """
    count = len(rows)
    outer, inner = _hadamard(_OUTER), _hadamard(_INNER)
    for signs in _signs():
        # H(512) = H(16) (x) H(32): two small matrix products instead of nine passes.
        halves = ((rows * signs).reshape(-1, _INNER) @ inner).reshape(-1, _OUTER, _INNER)
        blocks = np.matmul(outer, halves).reshape(count, 3, _BLOCK)
        rows = np.matmul(_mix(), blocks).reshape(count, WIDTH)
    return rows


def bits(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pack the signs of rotated rows as pgvector's `bit(1536)` holds them.

    Args:
        rows: Vectors as they are stored, not yet rotated; shape (n, 1536).

    Returns:
        Shape (n, 192): bit i of a row is 1 where rotated[i] > 0, most significant bit first.
    """
    return np.packbits(rotate(rows) > 0, axis=1)


@cache
def _signs() -> NDArray[np.float32]:
    """One +-1 per round and coordinate, from a hash: a generator's stream may change one day."""
    seed = hashlib.shake_256(b"ailydian rotation 1").digest(_ROUNDS * WIDTH // 8)
    drawn = np.unpackbits(np.frombuffer(seed, dtype=np.uint8)).reshape(_ROUNDS, WIDTH)
    return (1.0 - 2.0 * drawn).astype(np.float32)


@cache
def _hadamard(size: int) -> NDArray[np.float32]:
    """Sylvester's matrix of a power of two, scaled to be orthogonal."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    scaled: NDArray[np.float32] = (matrix / np.sqrt(size)).astype(np.float32)
    return scaled


@cache
def _mix() -> NDArray[np.float32]:
    """The reflection I - 2/3 J: every block of the output takes from all three blocks."""
    return (np.eye(3) - 2.0 / 3.0).astype(np.float32)
