"""Claims whose answer was lost with Postgres: the process that made them gives them back."""

import mmap

import pytest

from tests.support.factories import claim, job, make_tenant, publish_probe
from workers.process import strays as module
from workers.process.leases import SLOTS_BYTES, HeldLeases, Slots
from workers.process.strays import Strays

pytestmark = pytest.mark.usefixtures("pool")


@pytest.fixture
def held():
    return HeldLeases(Slots(mmap.mmap(-1, SLOTS_BYTES)))


@pytest.fixture
def strays(held, monkeypatch):
    monkeypatch.setattr(module, "APART_S", 0.0)
    return Strays(held, "worker-1")


def test_a_claim_that_its_process_does_not_know_of_costs_no_attempt(strays, held):
    tenant = make_tenant()
    known, lost, of_another = (publish_probe(tenant, n=n) for n in range(3))
    held.take(claim(known))
    claim(lost)
    claim(of_another, worker="worker-2")

    strays.expect()
    given = [strays.give_back() for _ in range(3)]

    assert given == [0, 1, 0]
    assert (job(lost)["state"], job(lost)["attempt"]) == ("PENDING", 0)
    assert job(known)["state"] == job(of_another)["state"] == "RUNNING"


def test_a_claim_whose_answer_was_on_its_way_is_kept(strays, held):
    job_id = publish_probe(make_tenant())
    leases = claim(job_id)
    strays.expect()

    first = strays.give_back()
    held.take(leases)
    later = [strays.give_back() for _ in range(2)]

    assert (first, later) == (0, [0, 0])
    assert job(job_id)["state"] == "RUNNING"


def test_without_an_outage_nothing_is_looked_for(strays):
    job_id = publish_probe(make_tenant())
    claim(job_id)

    assert [strays.give_back() for _ in range(3)] == [0, 0, 0]
    assert job(job_id)["state"] == "RUNNING"
