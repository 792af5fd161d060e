"""`ailydian cache stats|clear`, as an operator uses them."""

import json
from decimal import Decimal

import pytest

from tests.support.factories import make_tenant, rows
from workers.cache.semantic_cache import CachedAnswer, CacheQuestion, answered


@pytest.fixture
def cache(run):
    """Run `cache VERB --tenant SLUG ...`."""
    return lambda verb, *options, tenant="acme": run("cache", verb, "--tenant", tenant, *options)


@pytest.fixture
def asked(cache):
    """Two questions of acme, answered; one of them was asked three times more."""
    acme, other = make_tenant("acme"), make_tenant("other")
    for tenant, question, times in ((acme, "Who?", 4), (acme, "Where?", 1), (other, "Who?", 1)):
        for _ in range(times):
            answer = CachedAnswer("He.", "gpt-4.1-mini", cost_usd=Decimal("0.0002"))
            answered(
                CacheQuestion(tenant, question, "gpt-4.1-mini", {}), lambda answer=answer: answer
            )


def test_stats_tell_entries_hits_and_dollars_saved(cache, asked):
    code, output = cache("stats", "--json")

    document = json.loads(output)
    assert code == 0
    assert (document["entries"], document["hits"]) == (2, 3)
    assert Decimal(document["savedUsd"]) == Decimal("0.0006")
    assert [one["model"] for one in document["models"]] == ["gpt-4.1-mini"]
    code, output = cache("stats")
    assert code == 0
    assert "gpt-4.1-mini" in output
    assert "0.0006" in output


def test_clearing_forgets_the_tenants_answers_alone_and_is_audited(cache, asked):
    code, output = cache("clear", "--json")

    assert (code, json.loads(output)) == (0, {"tenant": "acme", "removed": 2})
    assert rows('SELECT "tenantId" FROM "SemanticCache"') == [("other",)]
    ((tenant, who, what),) = rows(
        """SELECT "tenantId", "userId", "metadata" FROM "AuditLog"
           WHERE "action" = 'cache.clear'"""
    )
    assert (tenant, what) == ("acme", {"removed": 2})
    assert who.startswith("cli:")


def test_a_tenant_that_is_not_there_is_named(cache):
    code, output = cache("stats", tenant="nobody")

    assert code != 0
    assert "nobody" in output
