"""An account that is out of order or of credit: jobs wait for it, and one request asks again."""

import pytest

from shared.errors import ProviderBudgetSpent, QuotaExhausted
from shared.models.providers.openai import OpenAIEmbedder
from shared.models.rate_limits import ProviderBucket
from shared.settings import read
from tests.support.stub_openai import Fault


@pytest.fixture
def embedder(stub):
    settings = read({"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": "sk-canary-of-the-key"})
    bucket = ProviderBucket(None, "k", tokens_per_minute=1e12, requests_per_minute=1e9)
    embedder = OpenAIEmbedder("text-embedding-3-small", settings, bucket)
    yield embedder
    embedder.close()


def test_an_account_without_credit_is_no_fault_of_the_job_and_says_what_to_do(stub, embedder):
    stub.faults.append(Fault(status=429, body=b'{"error": {"code": "insufficient_quota"}}'))

    with pytest.raises(QuotaExhausted, match="insufficient_quota: top up the account"):
        embedder.embed(["a"])


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_an_account_that_is_refused_is_asked_once_and_then_left_alone(stub, status, embedder):
    stub.faults.append(Fault(status=status))

    with pytest.raises(QuotaExhausted, match=str(status)):
        embedder.embed(["a"])
    with pytest.raises(ProviderBudgetSpent) as spared:
        embedder.embed(["a"])

    assert stub.seen.requests == 1
    assert 60 < spared.value.retry_after_s <= 120
    assert not spared.value.counted
