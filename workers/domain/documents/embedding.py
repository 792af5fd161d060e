"""Checks on vectors before they are stored."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProviderContractBroken

WIDTH: Final = 1536


def checked(vectors: NDArray[np.float32], *, count: int) -> NDArray[np.float32]:
    """Return a provider's vectors as unit rows, ready for cosine distance.

    Args:
        vectors: One row of 1536 floats per text, in the order of the texts.
        count: How many texts were sent, >= 1.

    Returns:
        A new array of shape (count, 1536), float32, every row of length 1 within 1e-6.

    Raises:
        ProviderContractBroken: Wrong shape, a NaN or infinity, or a row of length 0.

    Source: pgvector's `<=>` is cosine distance; on unit rows it equals 1 - dot product.
    """
    if vectors.shape != (count, WIDTH):
        raise ProviderContractBroken(
            f"The provider's vectors have shape {vectors.shape}, not ({count}, {WIDTH})."
        )
    # Squares of float32 overflow float32 from 2e19 on, so the lengths are summed in float64.
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if not np.isfinite(lengths).all():
        raise ProviderContractBroken("The provider's vectors hold a NaN or an infinity.")
    if not lengths.all():
        raise ProviderContractBroken("The provider returned a vector of length 0.")
    rows: NDArray[np.float32] = (vectors / lengths[:, None]).astype(np.float32)
    return rows


def recall(found: Sequence[str], exact: Sequence[str]) -> float:
    """Share of the exact neighbours that were found, in [0, 1]; 1 where there are none."""
    return len(set(found) & set(exact)) / len(exact) if exact else 1.0


def mean(values: Sequence[float]) -> float:
    """The mean of shares, rounded to four places; 1 where there are none."""
    return round(sum(values) / len(values), 4) if values else 1.0


def faults(
    found: float, wanted: float, recall: float, *, loss_max: float, recall_min: float
) -> list[str]:
    """List the reasons against making a model the live one; empty if there are none.

    Args:
        found: Share of sampled chunks that their own words find among the first, in [0, 1].
        wanted: The same share by the live model.
        recall: Mean share of the exact neighbours that search finds, in [0, 1].
        loss_max: How much smaller `found` may be than `wanted`.
        recall_min: How small `recall` may be.
    """
    reasons = []
    if found < wanted - loss_max:
        reasons.append(f"{found:.0%} of the sampled chunks are found (live model: {wanted:.0%})")
    if recall < recall_min:
        reasons.append(f"recall is {recall:.3f}, below the minimum of {recall_min}")
    return reasons
