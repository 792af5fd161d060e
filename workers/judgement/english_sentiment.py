"""The mood of English texts, by a lexicon that is shipped inside a wheel: VADER."""

from collections.abc import Sequence
from functools import cache
from typing import Any


def english(texts: Sequence[str]) -> list[float]:
    """The mood of each sentence in [-1, 1], VADER's `compound`; within 0.05 of 0 is neutral.

    Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
    Social Media Text" (2014); it is made for sentences, not for long texts.
    """
    scores = _analyser().polarity_scores
    return [float(scores(text)["compound"]) for text in texts]


@cache
def _analyser() -> Any:  # noqa: ANN401 - the library has no types
    from vaderSentiment.vaderSentiment import (  # type: ignore[import-untyped]  # noqa: PLC0415
        SentimentIntensityAnalyzer,
    )

    return SentimentIntensityAnalyzer()
