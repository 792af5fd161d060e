"""A step as it is read from the engine's answers, and the lease under which it is done."""

import json
import mmap
from datetime import UTC, datetime

import pytest

from shared.ids import JobId, TenantId
from shared.ledger.outbox import Lease
from tests.support.steps import make_step
from workers.process.leases import SLOTS_BYTES, HeldLeases, Slots
from workers.steps.step import Step

NODE = {"name": "fetch", "uses": "http", "spec": {}, "steps": {}, "timeoutS": 5.0}
RUN = {
    "tenantId": "acme",
    "inputs": {"a": 1},
    "startedAt": "2026-01-02T03:04:05.678",
    "depth": 1,
    "workflow": "onboarding",
}


def lease(**changes):
    known = {
        "job_id": JobId("job"),
        "tenant_id": TenantId("acme"),
        "job": "run_step",
        "queue": "workflow",
        "payload": {},
        "schema_version": 1,
        "attempt": 2,
        "attempts_max": 3,
        "crashes": 1,
        "fence": 7,
        "step_id": None,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "traceparent": "00-a-b-01",
    }
    return Lease(**known | changes)


def answer(place, fence, *parts, index=-1, **more):
    told = {
        "stepId": f"run/{place}",
        "runId": "run",
        "position": place,
        "index": index,
        "item": None,
        "fence": fence,
        "attempt": 1,
        "attemptsMax": 3,
    }
    for part in parts:
        told |= part
    return json.dumps(told | more)


def first(**more):
    told = answer(0, 7, RUN, NODE, expand=True, skip=True, **more)
    return Step.first(lease(), told, progress=lambda *_: None, transaction=lambda _: None)


def test_the_first_step_is_told_whole():
    step = first()

    assert (step.tenant_id, step.job_id, step.fence, step.step_id) == ("acme", "job", 7, "run/0")
    assert (step.name, step.timeout_s, step.attempts_max) == ("fetch", 5.0, 3)
    assert (step.index, step.expand, step.skip, step.traceparent) == (None, True, True, "00-a-b-01")
    assert step.scope() == {
        "inputs": {"a": 1},
        "steps": {},
        "run": {
            "id": "run",
            "workflow": "onboarding",
            "started_at": "2026-01-02T03:04:05.678Z",
        },
    }


def test_the_next_step_keeps_what_is_not_told_again():
    before = first()
    before.done("its output")

    item = before.following(answer(0, 8, index=3, item="x"))

    assert (item.name, item.inputs, item.started_at) == ("fetch", {"a": 1}, before.started_at)
    assert (item.index, item.item, item.fence) == (3, "x", 8)
    assert item.scope() == before.scope() | {"item": "x", "index": 3}
    assert (item.expand, item.skip, item.is_done, item.given) == (False, False, False, None)


def test_what_a_newer_schema_tells_besides_is_passed_over():
    assert first(colour="red") == first()


def test_the_lease_is_derived_and_the_claimed_one_stays_as_it_was():
    claimed = lease()
    spec = {"retry": {"backoff": "2s"}}

    now = first().following(answer(1, 9, NODE, spec=spec)).leased(claimed)

    assert (now.fence, now.step_id, now.attempt, now.crashes) == (9, "run/1", 1, 0)
    assert (now.time_limit_s, now.backoff_s) == (5.0, 2.0)
    assert (claimed.fence, claimed.attempt, claimed.crashes) == (7, 2, 1)
    assert first().leased(claimed).crashes == 1


@pytest.fixture
def holding():
    """What a process with no thread in a job holds."""
    return HeldLeases(Slots(mmap.mmap(-1, SLOTS_BYTES)))


def test_a_process_holds_a_job_as_it_goes_on(holding):
    claimed = lease()
    holding.take([claimed])
    now = make_step(fence=9).leased(claimed)

    with holding.running([claimed], limit_s=60):
        holding.goes_on(claimed, now, limit_s=60)

        assert holding.all() == [("job", 9)]
        assert holding.now(claimed) is now

    holding.drop([claimed])
    assert holding.all() == []
    assert holding.now(claimed) is claimed
