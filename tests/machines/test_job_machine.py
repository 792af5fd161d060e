"""Whatever is done to jobs in whatever order: each lies in one place, and takes effect once."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.machines.ledger import Ledger
from tests.machines.running import run

ANY = st.integers(0, 10_000)
EXAMPLES = 120


class Jobs(Ledger):
    """All acts in any order; leases and wake-ups of long ago come back again and again."""

    @initialize(number=st.integers(1, 4))
    def begin(self, number):
        for which in range(number):
            self.publish(which)

    @rule(which=ANY, priority=st.integers(-9, 9), delay_s=st.sampled_from((0, 0, 60, 600)))
    def publishes(self, which, priority, delay_s):
        self.publish(which, priority=priority, delay_s=delay_s)

    @rule(which=ANY)
    def publishes_again(self, which):
        self.publish_again(self.job(which))

    @rule(seconds=st.sampled_from((15, 90, 700)))
    def passes_time(self, seconds):
        self.pass_time(seconds)

    @rule(room=st.integers(1, 8))
    def relays(self, room):
        self.wake(room)

    @precondition(lambda self: self.wakeups)
    @rule(which=st.lists(ANY, min_size=1, max_size=4))
    def claims(self, which):
        self.claim([self.wakeups[one % len(self.wakeups)] for one in which])

    @precondition(lambda self: self.wakeups)
    @rule()
    def claims_all(self):
        self.claim(self.wakeups)

    @precondition(lambda self: self.leases)
    @rule(which=ANY, act=st.sampled_from(("effect", "effect", "complete", "give_back", "renew")))
    def ends(self, which, act):
        getattr(self, act)(self.leases[which % len(self.leases)])

    @precondition(lambda self: self.leases)
    @rule(which=ANY, delay_s=st.sampled_from((0, 60)), uncounted=st.booleans())
    def retries(self, which, delay_s, uncounted):
        self.retry(self.leases[which % len(self.leases)], delay_s=delay_s, uncounted=uncounted)

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def buries(self, which):
        self.bury(self.leases[which % len(self.leases)])

    @rule()
    def takes_back(self):
        self.take_back()

    @rule()
    def resends(self):
        self.resend()

    @rule(which=ANY, act=st.sampled_from(("cancel", "replay", "replay", "undo", "discard")))
    def is_operated(self, which, act):
        getattr(self, act)(self.job(which))

    @rule(which=st.integers(0, 1), act=st.sampled_from(("hold", "lift", "lift")))
    def is_paused(self, which, act):
        getattr(self, act)(self.tenants[which])

    @invariant()
    def is_as_it_must_be(self):
        self.check()


def test_a_job_lies_in_one_place_and_takes_effect_once(pool):
    run(Jobs, EXAMPLES)


def test_a_copy_of_an_old_message_does_not_begin_what_waits_again(pool):
    ledger = Jobs()
    ledger.publish(0)
    ledger.wake(1)
    [lease] = ledger.claim(ledger.wakeups)
    ledger.give_back(lease)

    assert ledger.claim(ledger.wakeups) == []

    ledger.wake(1)
    ledger.check()
