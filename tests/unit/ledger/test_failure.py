"""What follows from a failure: the waits, and which failures count as the same one."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.ledger import failure


def test_eight_attempts_end_within_an_hour_even_with_the_longest_waits():
    latest = Random(1)
    latest.uniform = lambda low, high: high

    waits = [failure.backoff_s(attempt, latest) for attempt in range(1, 8)]

    assert sum(waits) < 3_600
    assert waits == sorted(waits)


@given(st.integers(1, 10_000), st.integers(0, 1_000), st.floats(1, 10_000))
def test_a_backoff_never_exceeds_its_cap_and_jitter(attempt, seed, cap):
    assert 0 < failure.backoff_s(attempt, Random(seed), max_s=cap) <= cap * 1.15


def test_jobs_that_failed_together_do_not_return_together():
    rng = Random(1)

    waits = {round(failure.backoff_s(5, rng), 3) for _ in range(100)}

    assert len(waits) > 90
    assert max(waits) > 1.2 * min(waits)


@given(st.floats(), st.integers(0, 1_000))
def test_what_the_other_side_asks_is_obeyed_within_fifteen_minutes(asked, seed):
    wait = failure.retry_after_delay_s(asked, Random(seed))

    believed = 0.0 if math.isnan(asked) else min(max(asked, 0.0), 900.0)
    assert believed <= wait <= believed * 1.15


def test_nothing_asked_is_no_wait_and_a_parked_job_looks_again_after_minutes():
    rng = Random(1)

    assert failure.retry_after_delay_s(None, rng) == 0
    assert failure.park_s(600, rng) >= 600
    waits = [failure.park_s(None, rng) for _ in range(200)]
    assert 120 <= min(waits) < 140
    assert 220 < max(waits) <= 240


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The upload 12 is gone.", "The upload 7 is gone."),
        ("Text 'abc' is refused.", "Text 'xyz' is refused."),
        ('Key "a" is missing.', 'Key "b" is missing.'),
        (
            "No row 0190a1b2-0000-7000-8000-000000000001.",
            "No row 0190ffff-1111-7abc-9def-00000000abcd.",
        ),
        ("<Object at 0x7f00aa>", "<Object at 0x1b>"),
        ("Hash e3b0c44298fc1c149afbf4c8 differs.", "Hash ABCDEFabcdefABCDEFabcdef differs."),
        ("/tmp/a/b.pdf cannot be read.", "/var/lib/x/y.pdf cannot be read."),
        ("No answer from https://a.example/x?y=1 .", "No answer from https://b.example/z ."),
        ("Mail to ada@a.example bounced.", "Mail to bob@b.example bounced."),
    ],
)
def test_what_varies_from_job_to_job_does_not_make_another_failure(one, other):
    frames = ["ingest.py:ingest_document"]

    assert failure.fingerprint("Gone", frames, one) == failure.fingerprint("Gone", frames, other)


def test_type_place_and_wording_make_another_failure():
    frames = ["a.py:f", "b.py:g", "c.py:h"]
    same = failure.fingerprint("Gone", ["outer.py:run", *frames], "The upload is gone.")

    assert same == failure.fingerprint("Gone", frames, "The upload is gone.")
    assert same != failure.fingerprint("Lost", frames, "The upload is gone.")
    assert same != failure.fingerprint("Gone", [*frames[:2], "d.py:h"], "The upload is gone.")
    assert same != failure.fingerprint("Gone", frames, "The upload is late.")
    assert len(same) == 16
