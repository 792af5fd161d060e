"""Dead letters under many hands: however often replay is pressed, one life follows."""

import json
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from producers.queries.ledger import dead_letter_edits, dead_letters, replays, retentions
from producers.queries.ledger.dead_letter_edits import Edit
from producers.queries.ledger.dead_letters import DeadLetterFilters
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.ledger.outbox import Lease
from shared.queries.ledger import outbox
from tests.machines.ledger import Ledger
from tests.machines.running import run
from tests.machines.test_lease_machine import together
from tests.support.factories import rows

ANY = st.integers(0, 10_000)
EXAMPLES = 40


def pressed(act, ids):
    """Press a button on a connection of its own. Returns whom it moved."""
    with db.transaction(None, role=Role.RELAY) as conn:
        return {one.id for one in act(conn, ids)}


class Letters(Ledger):
    """Jobs die again and again; operators replay, undo, discard, edit and sweep them away."""

    @initialize()
    def begin(self):
        self.payloads = {}
        for which in range(4):
            self.publish(which)
        self.dies()

    @rule(which=ANY)
    def publishes(self, which):
        self.publish(which)

    @rule()
    def dies(self):
        self.wake(100)
        for lease in self.claim(self.wakeups):
            self.bury(lease)

    @rule()
    def begins(self):
        self.wake(100)
        self.claim(self.wakeups)

    @precondition(lambda self: self.leases)
    @rule(which=ANY, act=st.sampled_from(("effect", "bury", "bury", "give_back")))
    def ends(self, which, act):
        getattr(self, act)(self.leases[which % len(self.leases)])

    @rule(times=st.integers(2, 3))
    def is_replayed_by_many(self, times):
        dead = {one.id for one in self.jobs("DEAD")}
        found = together(*[lambda: pressed(dead_letters.replay, list(self.known))] * times)
        assert sum(map(len, found)) == len(dead), "one life a letter, however often it is pressed"
        assert set().union(*found) == dead
        for job_id in dead:
            self.replayed(self.known[job_id])

    @rule()
    def is_replayed_and_discarded(self):
        dead = {one.id for one in self.jobs("DEAD")}
        ids = list(self.known)
        again, gone = together(
            lambda: pressed(dead_letters.replay, ids), lambda: pressed(dead_letters.discard, ids)
        )
        assert again | gone == dead
        assert not again & gone, "replayed, and discarded"
        for job_id in again:
            self.replayed(self.known[job_id])
        for job_id in gone:
            self.known[job_id].end("CANCELLED", "DISCARDED")

    @rule()
    def is_undone_by_two(self):
        with db.transaction(None, role=Role.RELAY) as conn:
            unbegun = set(replays.select_unbegun(conn)) & self.known.keys()
        wanted = {one.id for one in self.jobs("PENDING") if one.waits_for == "replay"}
        assert unbegun == wanted
        first, second = together(*[lambda: pressed(replays.undo, list(self.known))] * 2)
        assert first | second == wanted
        assert not first & second, "undone twice"
        for job_id in wanted:
            self.known[job_id].fence += 1
            self.known[job_id].end("DEAD", "DEAD")

    @rule(which=ANY)
    def is_undone_as_it_begins(self, which):
        self.wake(100)
        known = self.job(which)
        wanted = known.state == "PENDING" and known.waits_for == "replay"
        wakes = {one for one, attempt in self.wakeups if self.wakes(one, attempt)}
        leased, undone = together(self.claimed, lambda: pressed(replays.undo, [known.id]))
        assert not (undone and known.id in {one.job_id for one in leased}), "begun, and undone"
        assert {one.job_id for one in leased} >= wakes - {known.id}
        for one in leased:
            self.leased(one)
        if undone:
            assert wanted
            known.fence += 1
            known.end("DEAD", "DEAD")

    def claimed(self):
        with db.transaction(None, role=Role.RELAY) as conn:
            found = outbox.claim(conn, self.wakeups, worker="w", lease_s=30.0)
            return [Lease(*row) for row in found]

    @rule(which=ANY, n=st.integers(1, 1_000))
    def is_edited_by_two(self, which, n):
        known = self.job(which)
        before = self.payloads.get(known.id, known.job.model_dump())
        wanted = [before | {"n": before["n"] + n}, before | {"n": before["n"] + 2 * n}]

        def edited(payload):
            change = Edit(known.id, before, json.dumps(payload), 1, "", 1, {"n": payload["n"]})
            with db.transaction(None, role=Role.RELAY) as conn:
                return dead_letter_edits.edit(conn, change)

        found = together(*[lambda payload=payload: edited(payload) for payload in wanted])
        assert sum(found) == (known.state == "DEAD"), "of two who edit at once, one is told"
        if any(found):
            self.payloads[known.id] = wanted[found.index(True)]

    @rule(days=st.sampled_from((0, 2)))
    def is_found_by_retention(self, days):
        """What has been dead for more than a day, and nothing else; here it stays."""
        dead = {one.id for one in self.jobs("DEAD")}
        with db.transaction(None, role=Role.RELAY) as conn, conn.transaction(force_rollback=True):
            conn.execute('UPDATE "DeadLetter" SET "diedAt" = "diedAt" - %s', [timedelta(days=days)])
            found = retentions.lock_dead(conn, {"maintenance": timedelta(days=1)}, limit=1_000)
        assert set(found) == (dead if days else set())

    @rule()
    def is_listed_page_by_page(self):
        dead = {one.id for one in self.jobs("DEAD")}
        listed = []
        for tenant in self.tenants:
            wanted, after = DeadLetterFilters(tenant_id=tenant), None
            with db.transaction(None, role=Role.RELAY) as conn:
                while page := dead_letters.select_dead(conn, wanted, after=after, limit=2):
                    listed += [row.id for row in page]
                    after = page[-1].letter_id
        assert len(listed) == len(set(listed))
        assert set(listed) == dead

    @invariant()
    def is_as_it_must_be(self):
        self.check()
        query = """SELECT j."id", j."payload" FROM "Job" j
                   JOIN "DeadLetter" d ON d."jobId" = j."id" WHERE j."tenantId" = ANY(%s)"""
        for job_id, payload in rows(query, self.tenants):
            known = self.known[job_id]
            assert payload == self.payloads.get(job_id, known.job.model_dump())
            assert Probe.model_validate(payload)


def test_a_letter_that_is_replayed_by_many_has_one_new_life(pool):
    run(Letters, EXAMPLES)
