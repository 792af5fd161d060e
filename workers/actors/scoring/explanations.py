"""Explanations: what a score was made of."""

import hashlib
import json
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared import db
from shared.contracts import ExplainScore
from shared.errors import NothingToExplain
from shared.outbox import Lease, effect
from shared.providers import toxicity
from shared.queries import explanations, outbox, scores
from shared.queries.explanations import NewExplanation, Subject
from shared.queries.scores import CalibrationRow
from workers.broker import actor
from workers.domain import calibration, moderation, quality, routing, trust
from workers.domain.explanations import EXACT_MAX, Attribution, Mask, exact, of_factors

NEUTRAL: Final = 0.5  # what a factor is taken for where it does not take part
# Words that take part by themselves; the rest of a text takes part in so many pieces.
WORDS_MAX: Final = 8
PIECES_MAX: Final = 2
TEXT_CHARS_MAX: Final = 4_000
_WORD: Final = re.compile(r"\S+")


@actor(ExplainScore)
def explain_score(job: ExplainScore, lease: Lease) -> None:
    """Share a score out among what it was made of, and keep that."""
    with db.transaction(lease.tenant_id) as conn:
        subject = explanations.select_subject(conn, job.subject, job.subject_id)
        curve = scores.select_calibration(conn) if job.subject == "quality" else None
    if subject is None:
        raise NothingToExplain(f"There is no {job.subject} score of {job.subject_id}.")
    found, features = _explained(subject, curve)
    importance = {"base": found.base, "score": found.score, "values": found.values}
    new = NewExplanation(
        message_id=subject.about,
        method=found.method,
        features=json.dumps(features),
        importance=json.dumps(importance),
        subject=subject.kind,
        subject_id=subject.id,
    )
    with effect(lease) as conn:
        outcome = {"explanationId": explanations.insert(conn, new), "method": found.method}
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(outcome | importance))


def _explained(
    subject: Subject, curve: CalibrationRow | None
) -> tuple[Attribution, dict[str, object]]:
    if subject.kind == "quality":
        return _quality(subject, curve), dict(subject.made_of)
    if subject.kind == "moderation":
        return _moderation(subject)
    if subject.kind == "trust":
        parts = {name: part for name, part in subject.made_of.items() if name != "base"}
        nothing = dict.fromkeys(parts, 0.0)
        return of_factors(parts, nothing, lambda of: trust.BASE + sum(of.values())), parts
    terms = dict(subject.made_of)
    unknown = dict.fromkeys(terms, routing.UNKNOWN)
    return of_factors(terms, unknown, routing.score), terms


def _quality(subject: Subject, curve: CalibrationRow | None) -> Attribution:
    """The factors and the refusal, through the calibration that the score was read by."""
    made_of = subject.made_of
    if "factors" not in made_of or set(made_of["factors"]) != set(quality.WEIGHTS):
        raise NothingToExplain(f"The score {subject.id} was made by an earlier formula.")
    if curve is not None and curve.version != made_of.get("calibration"):
        curve = None  # it was read otherwise: the raw score is what can be told exactly
    factors = dict(made_of["factors"]) | {"refusal": float(made_of.get("refusal", False))}
    reference = dict.fromkeys(quality.WEIGHTS, NEUTRAL) | {"refusal": 0.0}

    def score(of: dict[str, float]) -> float:
        raw = quality.raw_score(of, is_refusal=of["refusal"] > 0)
        return raw if curve is None else calibration.calibrated(raw, curve.method, curve.curve)

    return of_factors(factors, reference, score)  # type: ignore[arg-type]


def _moderation(subject: Subject) -> tuple[Attribution, dict[str, object]]:
    """What each word adds to the score of the worst category: the local engine judges the rest."""
    if subject.text is None:
        raise NothingToExplain(f"What the verdict {subject.id} is about is gone.")
    text = subject.text[:TEXT_CHARS_MAX]
    (found,) = moderation.judge_many([text], english=toxicity.probabilities)
    category = max(found.scores, key=lambda name: (found.scores[name], name), default=None)
    if category is None:
        return Attribution("shapley-exact", 0.0, 0.0, {}), {"category": None}
    players = _players(
        text, [(span.start, span.end) for span in found.spans if span.category == category]
    )

    def worth(masks: Mask) -> NDArray[np.float64]:
        kept = [
            "".join(text[start:end] for on, places in zip(row, players.values(), strict=True) if on
                    for start, end in places) for row in masks
        ]  # fmt: skip
        judged = moderation.judge_many(kept, english=toxicity.probabilities)
        return np.array([each.scores.get(category, 0.0) for each in judged])

    features: dict[str, object] = {
        "category": category,
        "engine": found.engine,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    return exact(list(players), worth), features


def _players(text: str, spans: list[tuple[int, int]]) -> dict[str, list[tuple[int, int]]]:
    """The words that take part, by what they say and where; and the rest, in a few pieces.

    A word goes with the white space behind it, so that all of them together are the text.
    """
    starts = [word.start() for word in _WORD.finditer(text)]
    words = list(zip(starts, [*starts[1:], len(text)], strict=True))
    touched = [
        place for place in words if any(place[0] < end and start < place[1] for start, end in spans)
    ]
    alone = words if len(words) <= EXACT_MAX else touched[:WORDS_MAX]
    players = {f"{text[start:end].strip()}@{start}": [(start, end)] for start, end in alone}
    rest = [place for place in words if place not in set(alone)]
    for number, piece in enumerate(np.array_split(np.arange(len(rest)), PIECES_MAX), 1):
        if len(piece):
            players[f"(the rest, part {number})"] = [rest[at] for at in piece]
    return players
