"""Slots of cron schedules. Pure: the time is an argument.

A slot is a moment that a cron expression names in a time zone; it is due when its jitter has
passed as well. The minutes of a slot follow Debian's cron through `cronsim`: a fixed time that the
clocks leap over runs right after the leap, one that they repeat runs once, and what runs every so
many minutes follows the true time. A sixth field in front gives the seconds.
"""

import difflib
import hashlib
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from shared.errors import UsageError

FIELDS: Final = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
RANGES: Final = ("0-59", "0-59", "0-23", "1-31 or L", "1-12 or JAN-DEC", "0-7 or SUN-SAT")
CRON_CHARS_MAX = 200
CATCH_UP_MAX = 100
# A slot that is found later than this counts as missed: nobody was there to run it.
MISSED_S = 60
JITTER_S_MAX = 86_400
_GAPS_LOOKED_AT = 60
_RANGE_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The servers' clocks may differ.
_AHEAD: Final = timedelta(days=1)


class CronRefused(UsageError):
    """Invalid cron expression."""

    code = "cron_refused"


class TimeZoneUnknown(UsageError):
    """Unknown time zone."""

    code = "time_zone_unknown"


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of a schedule.

    Attributes:
        cron: Five fields, or six with the seconds in front.
        time_zone: A name of the IANA database.
        jitter_s: Each slot is put off by less than this, by a share that its id and time fix.
        missed: What to do with missed slots: `once`, `skip` or `all`.
    """

    cron: str
    time_zone: str = "UTC"
    jitter_s: int = 0
    missed: str = "once"


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """The slots of a due schedule to run, and its next slot."""

    runs: tuple[datetime, ...]
    slot_at: datetime
    next_at: datetime
    note: str | None = None


def check(timing: Timing, now: datetime) -> None:
    """Validate a schedule.

    Raises:
        CronRefused: Invalid expression, or a jitter longer than a day or than the time between
            two slots.
        TimeZoneUnknown: The message suggests the nearest.
    """
    if timing.jitter_s > JITTER_S_MAX:
        raise CronRefused(f"jitter must be at most 86400 s (got {timing.jitter_s}).")
    slots = iterate(timing, now)
    before = next(slots)
    for _ in range(_GAPS_LOOKED_AT if timing.jitter_s else 0):
        slot = next(slots)
        gap_s = (slot - before).total_seconds()
        if gap_s < timing.jitter_s:
            raise CronRefused(
                f"A jitter of {timing.jitter_s} s is longer than the {gap_s:.0f} s between two "
                f"slots of {timing.cron!r}."
            )
        before = slot


def iterate(timing: Timing, after: datetime) -> Iterator[datetime]:
    """Yield the slots after a moment, in UTC, strictly ascending.

    Raises:
        CronRefused: Invalid expression; raised by the first `next`.
        TimeZoneUnknown: Raised by the first `next`.
    """
    zone = zone_named(timing.time_zone)
    fields = timing.cron.split()
    _refuse_malformed(timing.cron, fields)
    seconds = _seconds(fields[0]) if len(fields) == len(FIELDS) else [0]
    # One minute early, so that the seconds left of this minute are seen.
    begin = (after.astimezone(UTC).replace(second=0, microsecond=0)) - timedelta(seconds=1)
    last = after
    for minute in CronSim(" ".join(fields[-5:]), begin.astimezone(zone)):
        for second in seconds:
            slot = minute.astimezone(UTC) + timedelta(seconds=second)
            # Where clocks leap, cron names a moment twice, or one that is past.
            if slot > last:
                yield slot
                last = slot
    raise CronRefused(f"The cron expression {timing.cron!r} has no slot within 50 years.")


def next_slot(timing: Timing, after: datetime) -> datetime:
    """Return the first slot after a moment, in UTC; see `iterate`."""
    return next(iterate(timing, after))


def due_at(schedule_id: str, timing: Timing, slot: datetime) -> datetime:
    """Return when a slot is due: equal for every scheduler, spread evenly between schedules."""
    if not timing.jitter_s:
        return slot
    seed = hashlib.sha256(f"{schedule_id}:{slot.astimezone(UTC).isoformat()}".encode()).digest()
    share = int.from_bytes(seed[:6]) / 2**48
    return slot + timedelta(seconds=share * timing.jitter_s)


def first(schedule_id: str, timing: Timing, after: datetime) -> SlotPlan:
    """Return the first slot of a new or changed schedule."""
    slot = next_slot(timing, after)
    return SlotPlan((), slot, due_at(schedule_id, timing, slot))


def plan(schedule_id: str, timing: Timing, slot: datetime, now: datetime) -> SlotPlan:
    """Plan a due schedule by its policy for missed slots.

    Args:
        schedule_id: Its id, for the jitter.
        timing: When it runs.
        slot: The earliest slot that was not run.
        now: Not before that slot is due.

    Raises:
        CronRefused: No slot follows, or the row's own slot is out of range.
        TimeZoneUnknown: The zone is missing from the time zone database.
    """
    if not in_range(slot, now):
        raise CronRefused(f"The slot {slot.isoformat()} is out of range: put the schedule again.")
    runs: tuple[datetime, ...] = (slot,)
    note = None
    if timing.missed == "skip":
        late_s = (now - due_at(schedule_id, timing, slot)).total_seconds()
        if late_s > MISSED_S:
            runs, note = (), f"The slot {slot.isoformat()} was missed by {late_s:.0f} s, skipped."
    elif timing.missed == "all":
        runs, more = _each_due(schedule_id, timing, slot, now)
        if more:
            note = f"More than {CATCH_UP_MAX} slots were missed: the first {CATCH_UP_MAX} were run."
    following = _first_not_due(schedule_id, timing, runs[-1] if runs else slot, now)
    return SlotPlan(runs, following, due_at(schedule_id, timing, following), note)


def in_range(slot: datetime, now: datetime) -> bool:
    """Return whether a slot could have been run by now; a row changed by hand may hold any."""
    return _RANGE_BEGIN <= slot <= now + _AHEAD


def zone_named(name: str) -> ZoneInfo:
    """Return the time zone of this name.

    Raises:
        TimeZoneUnknown: Unknown; the message suggests the nearest.
    """
    try:
        return ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise TimeZoneUnknown(f"Unknown time zone {name!r}{_nearest(name)}") from None


def _each_due(
    schedule_id: str, timing: Timing, slot: datetime, now: datetime
) -> tuple[tuple[datetime, ...], bool]:
    """Return the due slots, oldest first, and whether there were too many."""
    runs = [slot]
    for following in iterate(timing, slot):
        if due_at(schedule_id, timing, following) > now:
            break
        if len(runs) == CATCH_UP_MAX:
            return tuple(runs), True
        runs.append(following)
    return tuple(runs), False


def _first_not_due(schedule_id: str, timing: Timing, slot: datetime, now: datetime) -> datetime:
    # What lies further back than the jitter is due: it need not be looked at slot by slot.
    begin = max(slot, now - timedelta(seconds=timing.jitter_s))
    slots = iterate(timing, begin)
    return next(one for one in slots if due_at(schedule_id, timing, one) > now)


def _refuse_malformed(cron: str, fields: list[str]) -> None:
    if len(cron) > CRON_CHARS_MAX:
        raise CronRefused(
            f"The cron expression must be at most {CRON_CHARS_MAX} characters (got {len(cron):,})."
        )
    if len(fields) not in (5, 6):
        raise CronRefused(
            f"A cron expression has 5 fields (minute hour day-of-month month day-of-week), or 6 "
            f"with the seconds in front; {cron!r} has {len(fields)}."
        )
    for position, text in enumerate(fields, start=6 - len(fields)):
        alone = ["*"] * 6
        alone[position] = text
        try:
            CronSim(" ".join(alone), datetime(2000, 1, 1, tzinfo=UTC))
        # An assertion of its own is how cronsim refuses some nonsense, such as 1#2/3.
        except (CronSimError, AssertionError):
            raise CronRefused(
                f"Invalid {FIELDS[position]} {text!r} in the cron expression {cron!r}: "
                f"must be {RANGES[position]}, with * , - and /."
            ) from None
    try:
        CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        raise CronRefused(f"The cron expression {cron!r} has a day that no month has.") from None


def _seconds(field: str) -> list[int]:
    return sorted(CronSim(f"{field} * * * * *", datetime(2000, 1, 1, tzinfo=UTC)).seconds)


def _nearest(name: str) -> str:
    known = {zone.lower(): zone for zone in zoneinfo.available_timezones()}
    wanted = name.lower().replace(" ", "_")
    cities = [zone for zone in sorted(known) if zone.rpartition("/")[2] == wanted]
    close = cities or difflib.get_close_matches(wanted, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {known[close[0]]}?" if close else "."
