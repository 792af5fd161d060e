"""Routing: how well each model serves each intent."""

import json

from shared.contracts import RefreshRouting
from shared.judgement import intents
from shared.ledger.outbox import Lease, effect
from shared.queries.ledger import outbox
from shared.queries.models import model_routes
from shared.queries.models.model_routes import NewScore
from workers.domain.models import routing
from workers.domain.models.bandit import Arm
from workers.domain.models.routing import Candidate
from workers.process.broker import actor


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
