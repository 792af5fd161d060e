"""Explanations: the parts that a score is made of."""

import hashlib
import json
from collections.abc import Sequence
from textwrap import shorten
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared import db
from shared.contracts import ExplainScore
from shared.errors import NothingToExplain
from shared.ledger.outbox import Lease, effect
from shared.queries.judgement import explanations
from shared.queries.judgement.explanations import AnswerSources, NewExplanation, ScoreSubject
from shared.queries.ledger import outbox
from shared.text.sentences import sentences
from workers.domain.judgement import calibration, moderation, quality, trust
from workers.domain.judgement import shapley as explaining
from workers.domain.judgement.quality import QualityInput
from workers.domain.judgement.shapley import Attribution, Mask, exact, of_factors
from workers.domain.models import routing
from workers.judgement import toxicity
from workers.process.broker import actor
from workers.queries.judgement import quality_scores
from workers.queries.judgement.quality_scores import CalibrationRow

NEUTRAL: Final = 0.5  # value of a factor that is left out
TEXT_CHARS_MAX: Final = 4_000  # of a longer text, the part around the findings
SENTENCES_MAX: Final = 8  # longer answers are split into this many pieces
PASSAGE_SENTENCES_MAX: Final = 60
NAME_CHARS: Final = 48
UNTOLD: Final = frozenset({"pii", "secret"})


@actor(ExplainScore)
def explain_score(job: ExplainScore, lease: Lease) -> None:
    """Attribute a score to its parts and store the explanation."""
    with db.transaction(lease.tenant_id) as conn:
        subject = explanations.select_subject(conn, job.subject, job.subject_id)
        curve = quality_scores.select_calibration(conn) if job.subject == "quality" else None
        rested = explanations.select_rested(conn, "" if subject is None else subject.about)
    if subject is None:
        raise NothingToExplain(f"There is no {job.subject} score of {job.subject_id}.")
    found, features = _explained(subject, curve)
    importance = _document(found)
    if subject.kind == "quality":
        importance["sentences"] = _document(_sentences(subject, rested))
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


def _document(found: Attribution) -> dict[str, object]:
    return {"base": found.base, "score": found.score, "values": found.values}


def _explained(
    subject: ScoreSubject, curve: CalibrationRow | None
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


def _quality(subject: ScoreSubject, curve: CalibrationRow | None) -> Attribution:
    """Attribution to the factors and the refusal, through the calibration that the score used."""
    made_of = subject.made_of
    if "factors" not in made_of or set(made_of["factors"]) != set(quality.WEIGHTS):
        raise NothingToExplain(f"The score {subject.id} was computed by an earlier formula.")
    if curve is not None and curve.version != made_of.get("calibration"):
        curve = None  # another calibration was used: only the raw score can be explained exactly
    factors = dict(made_of["factors"]) | {"refusal": float(made_of.get("refusal", False))}
    reference = dict.fromkeys(quality.WEIGHTS, NEUTRAL) | {"refusal": 0.0}

    def score(of: dict[str, float]) -> float:
        raw = quality.raw_score(of, is_refusal=of["refusal"] > 0)
        return raw if curve is None else calibration.calibrated(raw, curve.method, curve.curve)

    return of_factors(factors, reference, score)  # type: ignore[arg-type]


def _sentences(subject: ScoreSubject, rested: AnswerSources) -> Attribution:
    """The contribution of each sentence of an answer to its raw score, by leaving it out.

    By words alone, because no model compares every subset, and before calibration.
    """
    text = subject.text or ""
    found = list(sentences(text))
    starts = [0, *(one.start for one in found[1:])]
    places = list(zip(starts, [*starts[1:], len(text)], strict=True)) if found else []
    parts = [part for part in np.array_split(np.arange(len(places)), SENTENCES_MAX) if len(part)]
    players = {f"{part[0] + 1}. {_begin(text, *places[part[0]])}": part for part in parts}
    cited = [one.text for passage in rested.passages for one in sentences(passage)]
    is_same_language = subject.made_of["factors"]["language"] > 0

    def score(takes_part: Sequence[bool]) -> float:
        chosen = zip(takes_part, players.values(), strict=True)
        on = [at for is_on, part in chosen if is_on for at in part]
        answer = QualityInput(
            text="".join(text[slice(*places[at])] for at in on),
            sentences=[found[at].text for at in on],
            question=rested.question,
            passages=cited[:PASSAGE_SENTENCES_MAX],
            is_same_language=is_same_language,
        )
        return quality.estimate(answer).score

    return exact(list(players), lambda masks: np.array([score(row) for row in masks]))


def _begin(text: str, start: int, end: int) -> str:
    return shorten(text[start:end], NAME_CHARS, placeholder="...")


def _moderation(subject: ScoreSubject) -> tuple[Attribution, dict[str, object]]:
    """The contribution of each word to the worst category, by the local engine's scores."""
    if subject.text is None:
        raise NothingToExplain(f"The content of the verdict {subject.id} no longer exists.")
    kept = subject.made_of.get("scores") or {}
    (whole,) = _judged([subject.text])
    # The deciding category if the local engine sees it; else its own worst category.
    seen = {name: kept[name] for name in whole.scores if name in kept} or whole.scores
    category = max(seen, key=lambda name: (seen[name], name), default=None)
    features: dict[str, object] = {
        "category": category,
        "engine": whole.engine,
        "kept": kept,
        "sha256": hashlib.sha256(subject.text.encode()).hexdigest(),
    }
    if category is None:
        return Attribution("shapley-exact", 0.0, 0.0, {}), features
    spans = [(span.start, span.end) for span in whole.spans if span.category == category]
    begin = _window(len(subject.text), spans)
    text = subject.text[begin : begin + TEXT_CHARS_MAX]
    players = explaining.words(text, [(start - begin, end - begin) for start, end in spans])
    features["window"] = [begin, begin + len(text)]

    def worth(masks: Mask) -> NDArray[np.float64]:
        judged = _judged([explaining.kept(text, players, row) for row in masks])
        return np.array([each.scores.get(category, 0.0) for each in judged])

    named = list(players)
    if category in UNTOLD:  # text that must not be shown must not stand in an explanation either
        named = [f"(hidden)@{name.rpartition('@')[2]}" if "@" in name else name for name in named]
    return exact(named, worth), features


def _judged(texts: Sequence[str]) -> list[moderation.Findings]:
    return moderation.judge_many(texts, english=toxicity.probabilities)


def _window(chars: int, spans: Sequence[tuple[int, int]]) -> int:
    """The start of the part of a long text to explain: around the surest span."""
    if chars <= TEXT_CHARS_MAX or not spans:
        return 0
    return min(max(spans[0][0] - TEXT_CHARS_MAX // 2, 0), chars - TEXT_CHARS_MAX)
