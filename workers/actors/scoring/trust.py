"""Trust: events for and against people, and their trust scores."""

import json
from collections.abc import Sequence
from typing import Final

from shared.contracts import RefreshTrust, UpdateTrust
from shared.ledger.outbox import Lease, effect, effects, publish
from shared.operations import audit
from shared.queries.judgement import trust_scores
from shared.queries.judgement.trust_scores import NewEvent, TrustSignal, Weights
from shared.queries.ledger import outbox
from workers.domain.judgement.trust import BASE, FACTORS
from workers.process.broker import actor

PEOPLE_A_PAGE: Final = 500
SIGNALS_A_PAGE: Final = 5_000
SIGNAL_VALUES: Final = {"session": -0.2, "payment": 1.0}
WEIGHTS: Final = Weights(
    kinds=[factor.kind for factor in FACTORS],
    weights=[factor.weight for factor in FACTORS],
    half_lives_s=[factor.half_life_s for factor in FACTORS],
    lows=[factor.low for factor in FACTORS],
    highs=[factor.high for factor in FACTORS],
    base=BASE,
)


@actor(UpdateTrust)
def update_trust(jobs: Sequence[tuple[UpdateTrust, Lease]]) -> None:
    """Store events and recompute the trust of the people concerned, in one statement.

    Events for users outside the tenant are ignored, and their score is null.
    """
    events = [
        NewEvent(
            user_id=job.user_id,
            kind=job.kind,
            source_id=job.source_id,
            value=job.value,
            occurred_at=job.occurred_at,
            revision=job.revision,
            withdrawn=job.withdrawn,
        )
        for job, _ in jobs
    ]
    with effects([lease for _, lease in jobs]) as conn:
        scores = trust_scores.update(conn, events, WEIGHTS)
        outbox.set_outcomes(
            conn,
            [
                (lease.job_id, lease.fence, json.dumps({"score": scores.get(job.user_id)}))
                for job, lease in jobs
            ],
        )


@actor(RefreshTrust)
def refresh_trust(job: RefreshTrust, lease: Lease) -> None:
    """Recompute everybody's trust, a page at a time; sessions and payments become events.

    The platform writes these two itself; a session from a new place is audited as well.
    """
    with effect(lease) as conn:
        people = trust_scores.select_people(conn, job.after, limit=PEOPLE_A_PAGE)
        signals = trust_scores.select_signals(conn, people, limit=SIGNALS_A_PAGE) if people else []
        for signal in signals:
            if signal.kind == "session":
                audit.note(conn, "session.new_device", "Session", signal.source_id)
        trust_scores.update(conn, [_event(one) for one in signals], WEIGHTS, also=people)
        if len(people) == PEOPLE_A_PAGE:
            publish(conn, RefreshTrust(day=job.day, after=people[-1]))
        outcome = json.dumps({"people": len(people), "signals": len(signals)})
        outbox.set_outcome(conn, lease.job_id, lease.fence, outcome)


def _event(signal: TrustSignal) -> NewEvent:
    return NewEvent(
        user_id=signal.user_id,
        kind=signal.kind,
        source_id=signal.source_id,
        value=SIGNAL_VALUES[signal.kind],
        occurred_at=signal.occurred_at,
        revision=signal.occurred_at,
        withdrawn=False,
    )
