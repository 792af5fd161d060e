"""Incident detection rules: from figures to findings.

Each rule has two thresholds: one opens an incident, and a lower one keeps it open, so that an
ongoing fault does not become the baseline. A cause is a text key, kind first:
`dead:embed_chunks:ab12`. One cause has one open incident.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from producers.queries.operations.audit_sinks import SilentSink
from producers.queries.operations.horizons import Pin
from producers.queries.operations.incidents import (
    CrashLoop,
    Drift,
    FailingProvider,
    FlaggedShare,
    NewIncident,
    SpentBudget,
    Spike,
)
from shared.ids import TenantId
from shared.server_errors import Trouble

# The kinds that the sweep opens and resolves, and those that others open and it resolves; it
# ignores other incidents.
KINDS: Final = (
    *("crashes", "dead", "quarantine", "lag", "provider"),
    *("calibration", "moderation", "budget", "server", "audit"),
)
TOLD_KINDS: Final = ("door",)

# A spike: minimum count in ten minutes, and factor over the rate of the hour before.
SPIKE_MIN: Final = 10
SPIKE_TIMES: Final = 3.0
SPIKE_HIGH: Final = 100
# Deaths of a kind: this share of what its queue ended, within these bounds. Five are many where a
# queue does little, and ten are enough anywhere.
DEAD_MIN: Final = 5
DEAD_SHARE: Final = 0.05
# Processes that ended in ten minutes while they ran a kind of job.
CRASHES_MIN: Final = 5
CRASHES_HIGH: Final = 20
_WINDOWS_BEFORE: Final = 6
# Seconds that the oldest ready job may wait, for an incident and for high severity.
LAG_S: Final = 60.0
LAG_HIGH_S: Final = 600.0
# Allowed calibration error above the expected one, and the minimum number of rated pairs.
DRIFT: Final = 0.1
DRIFT_PAIRS_MIN: Final = 50
DRIFT_PAIRS_MAX: Final = 500
# Flagged verdicts in 15 minutes, and their share relative to the day before.
FLAGGED_MIN: Final = 20
FLAGGED_TIMES: Final = 3.0
# Share used without a day to compare with.
FLAGGED_SHARE: Final = 0.5
FLAGGED_KNOWN: Final = 100
# Seconds that a transaction may keep vacuum from dead rows, for an incident and for high severity.
PINNED_S: Final = 60.0
PINNED_HIGH_S: Final = 3_600.0
# Seconds that a place has not taken checkpoints of the audit log.
SILENT_S: Final = 60.0
# Open incidents stay open down to this part of a threshold.
STILL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Signs:
    """Input of the detectors, read at one moment.

    Attributes:
        crashes: Processes that ended, by the kind of job that they ran.
        ended: Jobs that a queue ended in ten minutes.
        lags: Seconds that the oldest ready job of a queue has waited; paused ones left out.
        broken: What the last verification of the audit log found.
        silent: Places that have not taken its checkpoints for `SILENT_S`.
        pins: What has kept vacuum from dead rows for longer than `PINNED_S`.
        open: Tenant ('' for the system) and cause of open incidents.
    """

    dead: Sequence[Spike] = ()
    crashes: Sequence[CrashLoop] = ()
    ended: Mapping[str, int] = field(default_factory=dict)
    quarantined: Sequence[Spike] = ()
    lags: Mapping[str, float] = field(default_factory=dict)
    providers: Sequence[FailingProvider] = ()
    drifts: Sequence[Drift] = ()
    flagged: Sequence[FlaggedShare] = ()
    budgets: Sequence[SpentBudget] = ()
    troubles: Sequence[Trouble] = ()
    pins: Sequence[Pin] = ()
    broken: str | None = None
    silent: Sequence[SilentSink] = ()
    open: Collection[tuple[str, str]] = frozenset()


def findings(signs: Signs) -> list[NewIncident]:
    """Return the findings, one per cause."""
    return [
        *_crashing(signs),
        *_dead(signs),
        *_quarantined(signs),
        *_late(signs),
        *_failing(signs),
        *_drifting(signs),
        *_flagged(signs),
        *_spent(signs),
        *_troubled(signs),
        *_pinned(signs),
        *_broken(signs),
        *_silent(signs),
    ]


def is_spike(spike: Spike, *, is_open: bool, least: int = SPIKE_MIN) -> bool:
    """Whether a count is a spike.

    The baseline is the mean of the six 10-minute windows before. An open incident stays open while
    at least half of the opening count arrives.

    Args:
        spike: The counts.
        is_open: Whether its incident is open.
        least: The opening count.
    """
    if is_open:
        return spike.now >= least * STILL
    return spike.now >= least and spike.now > SPIKE_TIMES * spike.before / _WINDOWS_BEFORE


def is_surge(share: FlaggedShare, *, is_open: bool) -> bool:
    """Whether far more of a tenant's content is flagged than on the day before.

    A tenant with fewer than `FLAGGED_KNOWN` earlier verdicts has no day to compare with: then half
    of all must be flagged.
    """
    factor = STILL if is_open else 1.0
    now = share.flagged / max(share.judged, 1)
    if share.flagged < FLAGGED_MIN * factor:
        return False
    if share.judged_before < FLAGGED_KNOWN:
        return now >= FLAGGED_SHARE * factor
    return now > FLAGGED_TIMES * factor * share.flagged_before / share.judged_before


def _crashing(signs: Signs) -> Iterator[NewIncident]:
    for loop in signs.crashes:
        cause = f"crashes:{loop.job}"
        least = CRASHES_MIN * (STILL if ("", cause) in signs.open else 1.0)
        if loop.deaths >= least and loop == _worst(signs, loop.queue):
            yield NewIncident(
                None,
                cause,
                f"Crash loop: {loop.job}",
                f"{loop.deaths} worker processes died in ten minutes while they ran {loop.job} "
                f"({loop.jobs} jobs); the last: {loop.error} Other jobs of the queue "
                f"{loop.queue} wait meanwhile. Stop it with `ailydian pause --job {loop.job}`; "
                f"`ailydian jobs list --job {loop.job}` and `ailydian dead list --job {loop.job}` "
                "lead to the stacks of the attempts.",
                "HIGH" if loop.deaths >= CRASHES_HIGH else "MEDIUM",
                float(loop.deaths),
            )


def _worst(signs: Signs, queue: str) -> CrashLoop | None:
    """The kind of a queue that ended most processes: others ran beside it when they died."""
    of_queue = [loop for loop in signs.crashes if loop.queue == queue]
    return max(of_queue, key=lambda loop: loop.deaths, default=None)


def _dead(signs: Signs) -> Iterator[NewIncident]:
    for spike in signs.dead:
        cause = f"dead:{spike.key}"
        share = math.ceil(DEAD_SHARE * signs.ended.get(spike.queue, 0))
        least = min(max(DEAD_MIN, share), SPIKE_MIN)
        if is_spike(spike, is_open=("", cause) in signs.open, least=least):
            fingerprint = spike.key.partition(":")[2]
            yield NewIncident(
                None,
                cause,
                f"Jobs die: {spike.label}",
                f"{spike.now} jobs {spike.label} died of the same error in ten minutes, "
                f"{spike.before} in the hour before. Look at them with "
                f"`ailydian dead list --fingerprint {fingerprint}`.",
                "HIGH" if spike.now >= SPIKE_HIGH else "MEDIUM",
                float(spike.now),
            )


def _quarantined(signs: Signs) -> Iterator[NewIncident]:
    for spike in signs.quarantined:
        cause = f"quarantine:{spike.key}"
        if is_spike(spike, is_open=("", cause) in signs.open):
            yield NewIncident(
                None,
                cause,
                f"Quarantine is growing: {spike.label}",
                f"{spike.now} invalid messages arrived in {spike.label} in ten minutes, "
                f"{spike.before} in the hour before: see `ailydian quarantine list`.",
                "HIGH" if spike.now >= SPIKE_HIGH else "MEDIUM",
                float(spike.now),
            )


def _late(signs: Signs) -> Iterator[NewIncident]:
    for queue, seconds in sorted(signs.lags.items()):
        cause = f"lag:{queue}"
        if seconds > LAG_S * (STILL if ("", cause) in signs.open else 1.0):
            loop = _worst(signs, queue)
            why = (
                "Check `ailydian status`: are there workers, and are their threads alive?"
                if loop is None
                else f"{loop.deaths} of its worker processes died in ten minutes while they ran "
                f"{loop.job}; the last: {loop.error}"
            )
            yield NewIncident(
                None,
                cause,
                f"Queue {queue} is lagging",
                f"Its oldest ready job has waited {seconds:.0f} s. {why}",
                "HIGH" if seconds > LAG_HIGH_S else "MEDIUM",
                seconds,
            )


def _failing(signs: Signs) -> Iterator[NewIncident]:
    for provider in signs.providers:
        yield NewIncident(
            None,
            f"provider:{provider.slug}",
            f"Provider {provider.slug} is failing",
            f"{provider.failures} calls have failed; its circuit breaker is open; others take "
            "its place. See `ailydian models`.",
            "HIGH",
            float(provider.failures),
        )


def _drifting(signs: Signs) -> Iterator[NewIncident]:
    for drift in signs.drifts:
        cause = f"calibration:{drift.version}"
        is_open = (drift.tenant_id, cause) in signs.open
        margin = DRIFT * (STILL if is_open else 1.0)
        if drift.pairs >= DRIFT_PAIRS_MIN and drift.found > drift.promised + margin:
            yield NewIncident(
                drift.tenant_id,
                cause,
                "Quality estimates have drifted",
                f"Version {drift.version} of the calibration expected an error of "
                f"{drift.promised:.3f}; on the newest {drift.pairs} rated answers it is "
                f"{drift.found:.3f}. The next calibration learns from them.",
                "MEDIUM",
                drift.found,
            )


def _flagged(signs: Signs) -> Iterator[NewIncident]:
    for share in signs.flagged:
        cause = "moderation:surge"
        if is_surge(share, is_open=(share.tenant_id, cause) in signs.open):
            yield NewIncident(
                share.tenant_id,
                cause,
                "Far more content is flagged than usual",
                f"{share.flagged} of {share.judged} verdicts of the last quarter of an hour, "
                f"{share.flagged_before} of {share.judged_before} of the day before: an attack, a "
                "new source, or a policy that is too strict. See `ailydian moderation list`.",
                "HIGH",
                float(share.flagged),
            )


def _spent(signs: Signs) -> Iterator[NewIncident]:
    for budget in signs.budgets:
        yield NewIncident(
            TenantId(budget.tenant_id),
            f"budget:{budget.id}",
            f"Budget {budget.name} is exhausted",
            f"{budget.spent_usd:.2f} of {budget.limit_usd:.2f} dollars are spent; blocked "
            f"until {budget.reset_at:%Y-%m-%d %H:%M} UTC.",
            "HIGH",
            float(budget.spent_usd / budget.limit_usd),
        )


def _troubled(signs: Signs) -> Iterator[NewIncident]:
    for trouble in signs.troubles:
        name = {"postgres": "Postgres", "redis": "Redis"}[trouble.server]
        yield NewIncident(
            None,
            f"server:{trouble.server}:{trouble.code}",
            f"{name} is in trouble: {trouble.code}",
            f"{trouble.sentence}. Jobs wait and use up no attempt; processes try again by "
            "themselves. See `ailydian status`.",
            "HIGH",
            1.0,
        )


def _pinned(signs: Signs) -> Iterator[NewIncident]:
    if not signs.pins:
        return
    oldest = max(signs.pins, key=lambda pin: pin.age_s)
    yield NewIncident(
        None,
        "server:postgres:horizon",
        "An open transaction keeps vacuum from removing dead rows",
        f"{'; '.join(pinned_by(pin) for pin in signs.pins)}. Events go on, but tables grow and "
        "jobs cost more until it ends: commit it, or end it with pg_terminate_backend, ROLLBACK "
        "PREPARED or pg_drop_replication_slot. See `ailydian status`.",
        "HIGH" if oldest.age_s >= PINNED_HIGH_S else "MEDIUM",
        oldest.age_s,
    )


def pinned_by(pin: Pin) -> str:
    """Name who keeps vacuum from dead rows, and since when."""
    who = {
        "transaction": "A transaction of",
        "prepared": "The prepared transaction",
        "slot": "The replication slot",
        "unknown": "A transaction of",
    }
    told = f"{who[pin.kind]} {pin.name}"
    where = [f"pid {pin.pid}"] * (pin.pid is not None)
    where += [f"database {pin.database}"] * (pin.database is not None)
    where += [pin.state] if pin.state is not None else []
    return f"{told} ({', '.join([*where, f'open for {pin.age_s:.0f} s'])})"


def _broken(signs: Signs) -> Iterator[NewIncident]:
    if signs.broken is not None:
        yield NewIncident(
            None,
            "audit:broken",
            "The audit log is broken",
            f"{signs.broken} Run `ailydian audit verify --against` with checkpoints that were kept "
            "outside; it stays open until a verification finds nothing.",
            "CRITICAL",
            1.0,
        )


def _silent(signs: Signs) -> Iterator[NewIncident]:
    for place in signs.silent:
        yield NewIncident(
            None,
            f"audit:sink:{place.sink}",
            "Checkpoints of the audit log are not kept outside",
            f"{place.sink} has taken none for {place.seconds:.0f} s: {place.error} They are sent "
            "as soon as it answers; see AILYDIAN_AUDIT_SINKS.",
            "HIGH",
            place.seconds,
        )
