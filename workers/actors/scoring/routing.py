"""Routing: how well each model serves each intent."""

import json

from shared import intents
from shared.contracts import RefreshRouting
from shared.outbox import Lease, effect
from shared.queries import model_routes, outbox
from shared.queries.model_routes import NewScore
from workers.broker import actor
from workers.domain import routing
from workers.domain.bandit import Arm
from workers.domain.routing import Candidate


@actor(RefreshRouting)
def refresh_routing(job: RefreshRouting, lease: Lease) -> None:  # noqa: ARG001 - the day names the fact
    """Compute the score of every enabled model for every intent, from what all tenants learnt."""
    named = [*intents.names(), intents.UNKNOWN]
    with effect(lease) as conn:
        scores = []
        for (
            model_id,
            intent,
            alpha,
            beta,
            cost_in,
            cost_out,
            latency,
            success,
        ) in model_routes.select_global(conn, named):
            candidate = Candidate(
                slug=model_id,
                arm=Arm(alpha, beta),
                cost_in=float(cost_in),
                cost_out=float(cost_out),
                latency_ms=latency,
                success=success,
            )
            terms = routing.terms(candidate)
            scores.append(NewScore(model_id, intent, routing.score(terms), json.dumps(terms)))
        model_routes.upsert_scores(conn, scores)
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps({"scores": len(scores)}))
