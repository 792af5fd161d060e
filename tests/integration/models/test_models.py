"""The catalogue on a real Postgres: seeded, counted, and shut off where a provider fails."""

import threading
from decimal import Decimal

import pytest

from producers.models import shipped_catalogue
from shared import db
from shared.contracts import RefreshRouting
from shared.db import Role
from shared.errors import NoModelFits
from shared.models.providers import LOCAL_COMPLETER
from shared.queries.accounts import preferences
from shared.queries.accounts.preferences import Preference
from shared.queries.models import model_routes, models
from shared.queries.models.models import FAILURES_MAX, Call, NewProvider
from shared.workflow.kinds import CompleteWith
from tests.support.factories import claim, do, environment, job, publish_jobs, rows
from workers.steps import model_choice

pytestmark = pytest.mark.usefixtures("pool")
MODEL = "gpt-4.1-mini"


def call(tenant, latency_ms=100.0, *, answered=True, is_fault=False):
    model_choice.note_call(tenant, Call(MODEL, latency_ms, answered, is_fault))


def model(slug=MODEL):
    with db.transaction(None, role=Role.OWNER) as conn:
        (row,) = models.select_models(conn, slug)
    return row


def candidates(tenant, intent="code"):
    with db.transaction(tenant) as conn:
        return [one.slug for one in model_routes.select_candidates(conn, intent)]


def test_a_migrated_database_has_the_catalogue_and_seeding_again_changes_nothing(tenant):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "AIModel" SET "costPer1kIn" = 7, "enabled" = false')

        assert shipped_catalogue.seed(conn) == (0, 0)

    assert model().cost_in == Decimal(7)
    assert not model(LOCAL_COMPLETER).enabled


def test_statistics_are_exponentially_weighted_and_the_first_call_sets_them(tenant):
    call(tenant, 1_000.0)
    call(tenant, 2_000.0)
    call(tenant, answered=False)

    row = model()
    assert (row.calls, row.avg_latency_ms) == (3, 1_050)
    assert row.success_rate == pytest.approx(1 - models.ALPHA)


def test_eight_workers_at_once_lose_no_call(tenant):
    def work():
        for _ in range(25):
            call(tenant, 300.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    row = model()
    assert (row.calls, row.avg_latency_ms, row.success_rate) == (200, 300, 1.0)


def test_a_provider_that_keeps_failing_is_left_alone_until_one_probe_is_answered(tenant):
    for _ in range(FAILURES_MAX):
        assert MODEL in candidates(tenant)
        call(tenant, answered=False, is_fault=True)
    assert (model().health, candidates(tenant)) == ("open", [LOCAL_COMPLETER])

    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "ProviderHealth" SET "openUntil" = now() - interval '1 second'""")
    assert MODEL in candidates(tenant)
    with db.transaction(tenant) as conn:
        probes = [models.take_probe(conn, MODEL) for _ in range(3)]
    assert probes == [True, False, False]
    assert MODEL not in candidates(tenant)

    call(tenant)
    assert model().health == "closed"
    assert MODEL in candidates(tenant)


def test_a_failed_probe_opens_the_breaker_for_longer(tenant):
    for _ in range(FAILURES_MAX):
        call(tenant, answered=False, is_fault=True)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "ProviderHealth" SET "openUntil" = now() - interval '1 second'""")
    with db.transaction(tenant) as conn:
        models.take_probe(conn, MODEL)

    call(tenant, answered=False, is_fault=True)

    ((seconds,),) = rows(
        """SELECT extract(epoch FROM "openUntil" - "updatedAt")::float8 FROM "ProviderHealth" """
    )
    assert seconds == pytest.approx(2 * models.OPEN_S)


def test_calls_that_fail_while_the_breaker_is_open_do_not_keep_it_open_for_longer(tenant):
    for _ in range(3 * FAILURES_MAX):
        call(tenant, answered=False, is_fault=True)

    assert rows('SELECT "failures" FROM "ProviderHealth"') == [(FAILURES_MAX,)]


def test_a_refused_request_is_no_fault_of_the_provider(tenant):
    for _ in range(2 * FAILURES_MAX):
        call(tenant, answered=False)

    assert model().health == "closed"


def test_a_disabled_provider_takes_its_models_out_at_once(tenant):
    with db.transaction(None, role=Role.OWNER) as conn:
        models.put_provider(conn, NewProvider("openai", "OpenAI", enabled=False))

    assert candidates(tenant) == [LOCAL_COMPLETER]


def test_routing_scores_are_written_for_every_enabled_model_and_intent_with_their_terms(tenant):
    (lease,) = claim(*publish_jobs(tenant, [RefreshRouting(day="2026-11-23")]))
    do(lease)

    with db.transaction(tenant) as conn:
        found = model_routes.select_routes(conn, "code")
    assert {one.model for one in found} == {LOCAL_COMPLETER, MODEL}
    assert all(0 <= one.score <= 1 for one in found)
    assert set(found[0].factors) == {"quality", "price", "speed", "success"}
    assert (
        job(lease.job_id)["outcome"]["scores"] == rows('SELECT count(*) FROM "RoutingScore"')[0][0]
    )


def test_the_steps_own_model_comes_first_then_the_persons_then_routing(tenant):
    with db.transaction(tenant) as conn:
        conn.execute(
            """INSERT INTO "User" ("id", "email", "passwordHash", "tenantId")
               VALUES ('ada', 'ada@example.org', '', %s)""",
            [tenant],
        )
        preferences.upsert_preference(conn, "ada", Preference(MODEL, 0.2, 99))
    asked = CompleteWith(prompt="Write a Python function.", user_id="ada")
    own_server = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}

    named = model_choice.choose_model(tenant, asked.model_copy(update={"model": "x"}))
    routed = model_choice.choose_model(tenant, asked)
    with environment(**own_server):
        preferred = model_choice.choose_model(tenant, asked)

    assert (named.model, named.intent) == ("x", "code")
    assert routed.model == LOCAL_COMPLETER  # the preferred one cannot be reached without a key
    assert (preferred.model, preferred.temperature, preferred.tokens_max) == (MODEL, 0.2, 99)


def test_limits_that_leave_no_model_are_refused_with_the_reason(tenant):
    with (
        environment(OPENAI_BASE_URL="http://127.0.0.1:9/v1"),
        pytest.raises(NoModelFits, match=r"gpt-4.1-mini: up to \$"),
    ):
        model_choice.choose_model(tenant, CompleteWith(prompt="Hello", cost_usd_max=0.0000001))
