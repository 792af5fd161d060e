"""Shared steps of all embedders: clean texts to send, and pad vectors to store."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 1536  # the platform's vector column


def cleaned(text: str) -> str:
    """Remove NULs and lone surrogates, which models and Postgres reject."""
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="ignore").decode()
    return text


def padded(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Widen rows with zeros to 1536; angles and lengths stay.

    Args:
        rows: Shape (n, width), width <= 1536.

    Returns:
        Shape (n, 1536), float32; `rows` itself where it already fits.
    """
    count, width = rows.shape
    if width == WIDTH:
        return rows
    wide = np.zeros((count, WIDTH), dtype=np.float32)
    wide[:, :width] = rows
    return wide


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of length 0 stays as it is."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
