"""Quality of answers: estimated, and calibrated against ratings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from shared import db
from shared.contracts import ApplyFeedback, CalibrateQuality, ScoreQuality
from shared.errors import MessageGone
from shared.ids import ChunkId, MessageId
from shared.judgement import intents, label_classifier
from shared.ledger.outbox import Lease, effect, effects, publish_many
from shared.queries.ledger import outbox
from shared.queries.models import model_routes
from shared.queries.models.model_routes import Reward
from shared.text.language import detect
from shared.text.sentences import sentences
from workers.domain.judgement import calibration, quality
from workers.domain.judgement.quality import WEIGHTS, Pair, QualityInput
from workers.process.broker import actor
from workers.queries.judgement import quality_scores
from workers.queries.judgement.quality_scores import (
    AnswerRow,
    CalibrationRow,
    NewCalibration,
    NewEstimate,
)
from workers.queries.messages import messages

# Sentences are compared by the local model, whatever the tenant's is: a score costs nothing. Its
# cosines of sentences that have nothing to do with each other, and of those that say the same.
UNRELATED, SAME = 0.10, 0.90
PASSAGE_SENTENCES_MAX: Final = 60
# Weight of an estimate as a bandit reward, relative to a rating.
ESTIMATE_WEIGHT: Final = 0.2
PAIRS_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class _Scored:
    """An answer's estimate under the calibration in force."""

    job: ScoreQuality
    score: float
    intent: str
    metrics: dict[str, object]


@actor(ScoreQuality)
def score_quality(jobs: Sequence[tuple[ScoreQuality, Lease]]) -> None:
    """Estimate the quality of answers against their questions and the passages they cite."""
    tenant_id = jobs[0][1].tenant_id
    with db.transaction(tenant_id) as conn:
        answers = quality_scores.select_answers(conn, [job.message_id for job, _ in jobs])
        chunks = [chunk_id for job, _ in jobs for chunk_id in job.chunk_ids]
        passages = messages.select_passages(conn, chunks) if chunks else {}
        curve = quality_scores.select_calibration(conn)
    for job, _ in jobs:
        if job.message_id not in answers:
            raise MessageGone(f"The message {job.message_id} no longer exists.")
    # Think: no connection is held while the model compares.
    scored = _scored([job for job, _ in jobs], answers, passages, curve)
    with effects([lease for _, lease in jobs]) as conn:
        new = [
            NewEstimate(one.job.message_id, one.score, json.dumps(one.metrics), one.intent)
            for one in _last_of_each(scored)
        ]
        quality_scores.upsert_estimates(conn, new)
        # Answers rated before they were scored: apply the ratings now.
        rated = quality_scores.select_rated(conn, [one.message_id for one in new])
        publish_many(conn, [_carried(message_id, jobs[0][1]) for message_id in rated])
        outcomes = [
            (lease.job_id, lease.fence, json.dumps({"score": one.score} | one.metrics))
            for (_, lease), one in zip(jobs, scored, strict=True)
        ]
        outbox.set_outcomes(conn, outcomes)
        model_routes.reward(
            conn, [Reward(one.message_id, one.score, ESTIMATE_WEIGHT) for one in new]
        )


def _carried(message_id: MessageId, lease: Lease) -> ApplyFeedback:
    return ApplyFeedback(message_id=message_id, feedback_id="scored", changed_at=lease.job_id)


def _scored(
    jobs: Sequence[ScoreQuality],
    answers: Mapping[MessageId, AnswerRow],
    passages: Mapping[ChunkId, str],
    curve: CalibrationRow | None,
) -> list[_Scored]:
    # A passage that several answers cite is split once.
    cited = {name: [one.text for one in sentences(text)] for name, text in passages.items()}
    described = [_described(job, answers[job.message_id].content, cited) for job in jobs]
    compared = _compared([pair for each in described for pair in quality.pairs(each)])
    intent_of = _intents(jobs, answers)
    found = []
    for job, answer in zip(jobs, described, strict=True):
        estimate = quality.estimate(answer, compared)
        score = estimate.score
        if curve is not None:
            score = calibration.calibrated(score, curve.method, curve.curve)
        metrics: dict[str, object] = {
            "factors": estimate.factors,
            "weights": WEIGHTS,
            "raw": estimate.score,
            "refusal": estimate.is_refusal,
            "passages": len(job.chunk_ids),
            "calibration": None if curve is None else curve.version,
        }
        found.append(_Scored(job, score, intent_of[job.message_id], metrics))
    return found


def _described(
    job: ScoreQuality, content: str, cited: Mapping[ChunkId, Sequence[str]]
) -> QualityInput:
    passages = [text for chunk_id in job.chunk_ids for text in cited.get(chunk_id, ())]
    return QualityInput(
        text=content,
        sentences=[sentence.text for sentence in sentences(content)],
        question=job.question,
        passages=passages[:PASSAGE_SENTENCES_MAX],
        is_same_language=not job.question.strip() or detect(job.question) == detect(content),
    )


def _compared(pairs: Sequence[Pair]) -> dict[Pair, float]:
    """Similarities of pairs of texts, in [0, 1]; each text is embedded once."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    if not texts:
        return {}
    rows = label_classifier.embedded(texts)
    at = {text: place for place, text in enumerate(texts)}
    cosines = {pair: float(rows[at[pair[0]]] @ rows[at[pair[1]]]) for pair in pairs}
    return {
        pair: min(max((cosine - UNRELATED) / (SAME - UNRELATED), 0.0), 1.0)
        for pair, cosine in cosines.items()
    }


def _intents(
    jobs: Sequence[ScoreQuality], answers: Mapping[MessageId, AnswerRow]
) -> dict[MessageId, str]:
    intent_of = {job.message_id: answers[job.message_id].intent or "" for job in jobs}
    unknown = [job for job in jobs if not intent_of[job.message_id]]
    for job, intent in zip(
        unknown, intents.intents_of([job.question for job in unknown]), strict=True
    ):
        intent_of[job.message_id] = intent.name
    return intent_of


def _last_of_each(scored: Sequence[_Scored]) -> list[_Scored]:
    return list({one.job.message_id: one for one in scored}.values())


@actor(CalibrateQuality)
def calibrate_quality(job: CalibrateQuality, lease: Lease) -> None:  # noqa: ARG001 - the day names the fact
    """Fit a calibration to the tenant's rated answers; keep it only if it beats the current one."""
    with db.transaction(lease.tenant_id) as conn:
        pairs = quality_scores.select_pairs(conn, limit=PAIRS_MAX)
        held = quality_scores.select_calibration(conn)
    values = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    found = calibration.fitted(values[:, 0], values[:, 1])
    outcome: dict[str, object] = {
        "method": found.method,
        "pairs": found.pairs,
        "errorRaw": found.error_raw,
        "error": found.error,
        "version": None if held is None else held.version,
    }
    with effect(lease) as conn:
        if found.method != "identity" or (held is not None and held.method != "identity"):
            new = NewCalibration(
                found.method, json.dumps(found.curve), found.pairs, found.error_raw, found.error
            )
            outcome["version"] = quality_scores.insert_calibration(conn, new)
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(outcome))
