"""`ailydian models`, as people and scripts use it: list, put, provider, routes, seed."""

import json
from functools import partial

import pytest

from shared.contracts import RefreshRouting
from shared.models.providers import LOCAL_COMPLETER
from tests.support.factories import claim, do, make_tenant, publish_jobs, rows


@pytest.fixture
def run(run):
    """Run `models ...` on the test's servers."""
    return partial(run, "models")


NEW = ("--provider", "openai", "--context-window", "1000", "--in", "0.0001", "--out", "0.0002")


@pytest.fixture
def answer(run):
    """What `models` answers as JSON."""

    def command(*arguments):
        code, output = run(*arguments, "--json")
        assert code == 0, output
        return json.loads(output)

    return command


def acts():
    return rows(
        """SELECT "action", "resourceId", "metadata"->'before', "metadata"->'after'
           FROM "AuditLog" ORDER BY "id" """
    )


def test_the_catalogue_is_listed_with_prices_as_decimals(answer):
    (local,) = (one for one in answer("list") if one["slug"] == LOCAL_COMPLETER)

    assert (local["provider"], local["health"], local["calls"]) == ("local", "closed", 0)
    assert float(local["costIn"]) == 0
    assert isinstance(local["costIn"], str)


def test_only_what_can_be_used_is_listed_on_request(run, answer):
    answer("provider", "openai", "--disabled")

    assert [one["slug"] for one in answer("list", "--enabled")] == [LOCAL_COMPLETER]
    assert LOCAL_COMPLETER in run("list")[1]


def test_a_model_is_put_changed_and_keeps_what_is_not_named_with_each_change_audited(answer):
    answer("put", "tiny", *NEW)
    changed = answer("put", "tiny", "--in", "0.5", "--disabled")
    answer("put", "tiny", "--disabled")

    assert (changed["costIn"], changed["contextWindow"]) == ("0.50000000", 1000)
    assert not changed["enabled"]
    made, moved = acts()  # the third changed nothing
    assert made[:3] == ("model.put", "tiny", None)
    assert moved[2]["costIn"] == "0.00010000"
    assert moved[3]["costIn"] == "0.50000000"


def test_a_new_model_that_lacks_a_price_or_a_known_provider_is_refused(run):
    code, output = run("put", "tiny", "--provider", "openai")
    assert code != 0
    assert "--in, --out" in output

    code, output = run("put", "tiny", "--provider", "nobody", *NEW[2:])
    assert code != 0
    assert "There is no provider 'nobody'" in output
    assert acts() == []


def test_a_price_that_is_none_is_refused(run):
    for price in ("cheap", "-1", "NaN"):
        code, output = run("put", "tiny", *NEW[:4], "--in", price, "--out", "0")
        assert code != 0
        assert "invalid price" in output


def test_a_provider_keeps_its_address_when_it_is_switched_off(answer):
    answer("provider", "mine", "--name", "Mine", "--base-url", "https://models.example/v1")
    off = answer("provider", "mine", "--disabled")

    assert off == {
        "slug": "mine",
        "name": "Mine",
        "baseUrl": "https://models.example/v1",
        "enabled": False,
    }
    assert [act[0] for act in acts()] == ["provider.put", "provider.put"]


def test_seeding_a_database_that_has_the_catalogue_adds_nothing(answer):
    assert answer("seed") == {"providers": 0, "models": 0}


def test_routes_of_a_texts_intent_are_shown_with_their_terms(run, answer):
    (lease,) = claim(*publish_jobs(make_tenant(), [RefreshRouting(day="2026-11-23")]))
    do(lease)

    found = answer("routes", "--text", "Write a Python function that sorts a list.")

    assert {one["intent"] for one in found} == {"code"}
    assert found == sorted(found, key=lambda one: -one["score"])
    assert set(found[0]["factors"]) == {"quality", "price", "speed", "success"}
    assert "price" in run("routes")[1]
    assert run("routes", "--text", "Hi", "--intent", "code")[0] != 0
