"""Embedders of a stub."""

import pytest

from shared.models.providers.openai import OpenAIEmbedder
from shared.models.rate_limits import ProviderBucket
from shared.settings import read

MODEL = "text-embedding-3-small"
KEY = "sk-canary-of-the-key"
UNLIMITED = {"tokens_per_minute": 1e12, "requests_per_minute": 1e9}


@pytest.fixture
def embedder_of():
    """Makes embedders of a stub, and closes them."""
    made = []

    def embedder_of(stub, *, model=MODEL, timeout_s=10, inputs_max="", **limits):
        environment = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
        environment["AILYDIAN_EMBED_INPUTS_MAX"] = inputs_max
        settings = read({**environment, "AILYDIAN_OPENAI_TIMEOUT_S": str(timeout_s)})
        bucket = ProviderBucket(None, "k", **{**UNLIMITED, **limits})
        made.append(OpenAIEmbedder(model, settings, bucket))
        return made[-1]

    yield embedder_of
    for embedder in made:
        embedder.close()
