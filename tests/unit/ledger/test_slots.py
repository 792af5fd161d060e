"""When a slot comes and when it is due: cron, time zones, jitter, missed slots."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.ledger import schedule_slots
from producers.ledger.schedule_slots import CATCH_UP_MAX, CronRefused, TimeZoneUnknown, Timing

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ZONES = ("UTC", "Europe/Istanbul", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
CRONS = ("*/5 * * * *", "30 2 * * *", "0 */2 * * *", "0,30 1-3 * * *", "15 30 2 * * SUN")
SCHEDULES = st.builds(
    Timing,
    cron=st.sampled_from(CRONS),
    time_zone=st.sampled_from(ZONES),
    jitter_s=st.integers(0, 290),
    missed=st.sampled_from(("once", "skip", "all")),
)
# From 1990 to 2090, to the second.
MOMENTS = st.integers(631_152_000, 3_786_912_000).map(lambda at: datetime.fromtimestamp(at, UTC))


def at(text):
    return datetime.fromisoformat(text).astimezone(UTC)


def some(cron, zone, after, count):
    """The next slots in their zone's own time, as a person writes them."""
    found = islice(schedule_slots.iterate(Timing(cron, zone), at(after)), count)
    local = [slot.astimezone(schedule_slots.zone_named(zone)) for slot in found]
    return [f"{slot:%Y-%m-%d %H:%M:%S %Z}" for slot in local]


def test_a_cron_expression_is_read_in_its_time_zone():
    found = some("0 9 * * MON-FRI", "Europe/Istanbul", "2026-11-20T12:00+03:00", 2)

    assert found == ["2026-11-23 09:00:00 +03", "2026-11-24 09:00:00 +03"]


def test_a_sixth_field_gives_the_seconds():
    found = some("*/15 * * * * *", "UTC", "2026-11-22T11:59:31Z", 3)

    assert [slot[11:19] for slot in found] == ["11:59:45", "12:00:00", "12:00:15"]


def test_a_time_the_clocks_leap_over_runs_once_right_after():
    found = some("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", 2)

    assert found == ["2026-03-29 03:00:00 CEST", "2026-03-30 02:30:00 CEST"]


def test_a_time_the_clocks_repeat_runs_once():
    found = some("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00", 3)

    assert found == [
        "2026-10-25 02:30:00 CEST",
        "2026-10-26 02:30:00 CET",
        "2026-10-27 02:30:00 CET",
    ]


def test_the_second_pass_of_a_repeated_hour_brings_no_slot_again():
    in_the_second_pass = "2026-10-25T02:10+01:00"

    found = some("30 2 * * *", "Europe/Berlin", in_the_second_pass, 1)

    assert found == ["2026-10-26 02:30:00 CET"]


def test_what_runs_every_so_many_minutes_follows_the_true_time():
    through_the_gap = some("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:30+01:00", 3)
    through_the_overlap = list(
        islice(
            schedule_slots.iterate(
                Timing("*/30 * * * *", "Europe/Berlin"), at("2026-10-25T00:00Z")
            ),
            4,
        )
    )

    assert [slot[11:] for slot in through_the_gap] == [
        *("03:00:00 CEST", "03:30:00 CEST", "04:00:00 CEST")
    ]
    assert {later - slot for slot, later in pairwise(through_the_overlap)} == {
        timedelta(minutes=30)
    }


def test_several_times_that_a_leap_moves_together_are_one_slot():
    found = some("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", 3)

    assert [slot[5:16] for slot in found] == ["03-29 03:00", "03-29 03:30", "03-30 02:00"]


def test_the_leap_day_comes_every_four_years_and_not_in_2100():
    found = some("0 0 29 2 *", "UTC", "2092-03-01T00:00Z", 2)

    assert [slot[:10] for slot in found] == ["2096-02-29", "2104-02-29"]


def test_slots_go_on_after_2038():
    found = some("7 */6 * * *", "America/New_York", "2038-01-19T03:14:07Z", 2)

    assert found == ["2038-01-19 00:07:00 EST", "2038-01-19 06:07:00 EST"]


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("61 * * * *", "Invalid minute '61' in .* must be 0-59"),
        ("* 24 * * *", "Invalid hour '24'"),
        ("* * 0 * *", "Invalid day-of-month '0'"),
        ("* * * FOO *", "Invalid month 'FOO' in .* must be 1-12 or JAN-DEC"),
        ("* * * * 8", "Invalid day-of-week '8'"),
        ("* * * * 1#2/3", "Invalid day-of-week '1#2/3'"),
        ("60 * * * * *", "Invalid second '60'"),
        ("*/0 * * * *", "Invalid minute '[*]/0'"),
        ("@daily", "has 5 fields .* has 1"),
        ("", "has 0"),
        ("* " * 150, "must be at most 200 characters"),
        ("0 0 31 2 *", "has a day that no month has"),
    ],
)
def test_a_bad_expression_is_refused_by_the_field_that_is_wrong(cron, sentence):
    with pytest.raises(CronRefused, match=sentence):
        schedule_slots.check(Timing(cron), NOW)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Europe/Istambul", "Europe/Istanbul"),
        ("istanbul", "Asia/Istanbul"),
        ("New York", "America/New_York"),
        ("Europe", None),
        ("../etc/passwd", None),
        ("", None),
    ],
)
def test_an_unknown_time_zone_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(TimeZoneUnknown) as refused:
        schedule_slots.check(Timing("* * * * *", name), NOW)

    assert nearest is None or f"did you mean {nearest}?" in str(refused.value)


def test_a_jitter_longer_than_the_way_to_the_next_slot_is_refused():
    schedule_slots.check(Timing("*/5 * * * *", jitter_s=300), NOW)

    with pytest.raises(CronRefused, match="jitter of 301 s is longer than the 300 s"):
        schedule_slots.check(Timing("*/5 * * * *", jitter_s=301), NOW)


@given(timing=SCHEDULES, slot=MOMENTS)
def test_jitter_is_the_same_for_everybody_and_below_its_limit(timing, slot):
    due = schedule_slots.due_at("some id", timing, slot)

    assert due == schedule_slots.due_at(
        "some id", timing, slot.astimezone(schedule_slots.zone_named(ZONES[1]))
    )
    assert timedelta(0) <= due - slot <= timedelta(seconds=timing.jitter_s)


def test_jitter_spreads_schedules_of_the_same_slot():
    timing = Timing("0 * * * *", jitter_s=60)

    late_s = [
        (schedule_slots.due_at(f"{n}", timing, NOW) - NOW).total_seconds() for n in range(1_000)
    ]

    assert 25 < sum(late_s) / 1_000 < 35
    assert all(90 < sum(n <= one < n + 10 for one in late_s) < 250 for n in range(0, 60, 10))


@given(timing=SCHEDULES, after=MOMENTS)
def test_slots_ascend_and_each_follows_from_any_moment_before_it(timing, after):
    found = list(islice(schedule_slots.iterate(timing, after), 5))

    assert after < found[0]
    assert found == sorted(set(found))
    for before, slot in pairwise(found):
        assert schedule_slots.next_slot(timing, before) == slot
        assert schedule_slots.next_slot(timing, slot - timedelta(seconds=1)) == slot


@given(timing=SCHEDULES, after=MOMENTS, late=st.timedeltas(timedelta(0), timedelta(days=3)))
def test_no_slot_is_run_twice_or_before_it_is_due(timing, after, late):
    begin = schedule_slots.first("id", timing, after)
    now = begin.next_at + late

    plan = schedule_slots.plan("id", timing, begin.slot_at, now)

    assert list(plan.runs) == sorted(set(plan.runs))
    assert all(begin.slot_at <= run < plan.slot_at for run in plan.runs)
    assert all(schedule_slots.due_at("id", timing, run) <= now for run in plan.runs)
    assert plan.next_at > now
    for slot in schedule_slots.iterate(timing, begin.slot_at):
        if slot == plan.slot_at:
            break
        assert schedule_slots.due_at("id", timing, slot) <= now, "left out before it was due"


def test_a_slot_whose_jitter_is_not_over_is_not_left_out():
    timing = Timing("*/5 * * * *", jitter_s=290)
    following = NOW + timedelta(minutes=5)
    now = schedule_slots.due_at("id", timing, following) - timedelta(milliseconds=1)
    assert now > following

    plan = schedule_slots.plan("id", timing, NOW, now)

    assert (plan.runs, plan.slot_at) == ((NOW,), following)


def test_once_runs_once_for_all_that_was_missed():
    plan = schedule_slots.plan("id", Timing("0 * * * *"), NOW, NOW + timedelta(hours=5, minutes=10))

    assert (plan.runs, plan.slot_at) == ((NOW,), NOW + timedelta(hours=6))


def test_skip_runs_what_is_due_now_and_nothing_that_was_missed():
    timing = Timing("0 * * * *", missed="skip")

    in_time = schedule_slots.plan("id", timing, NOW, NOW + timedelta(seconds=59))
    missed = schedule_slots.plan("id", timing, NOW, NOW + timedelta(hours=5))

    assert in_time.runs == (NOW,)
    assert (missed.runs, missed.slot_at) == ((), NOW + timedelta(hours=6))
    assert "missed by 18000 s" in str(missed.note)


def test_all_runs_each_missed_slot_up_to_a_limit_and_says_so():
    timing = Timing("* * * * *", missed="all")

    each = schedule_slots.plan("id", timing, NOW, NOW + timedelta(minutes=3))
    too_many = schedule_slots.plan("id", timing, NOW, NOW + timedelta(days=40))

    assert each.runs == tuple(NOW + timedelta(minutes=n) for n in range(4))
    assert each.note is None
    assert too_many.runs == tuple(NOW + timedelta(minutes=n) for n in range(CATCH_UP_MAX))
    assert too_many.slot_at == NOW + timedelta(days=40, minutes=1)
    assert str(CATCH_UP_MAX) in str(too_many.note)
