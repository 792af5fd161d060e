"""Conversations: sentiment, keywords and tags of many messages together."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.text import Language
from shared.text.letters import fold, plain
from shared.text.stems import stem
from shared.text.stop_words import STOP_WORDS
from shared.text.suffixes import without_suffixes

# A message counts half as much as the one five later: how it ends is how it is remembered.
HALVED_AFTER: Final = 5
KEYWORDS_MAX: Final = 5
# Words of an answer count half: they repeat those of its sources.
ANSWER_WEIGHT: Final = 0.5
_WORD: Final = re.compile(r"[^\W\d_]{3,30}")


def weights(count: int) -> NDArray[np.float64]:
    """Weights of messages, oldest first: 1 for the newest, halved for every five that follow.

    Returns:
        Shape (count,), each in (0, 1].
    """
    ages = np.arange(count - 1, -1, -1, dtype=np.float64)
    return np.asarray(0.5 ** (ages / HALVED_AFTER), dtype=np.float64)


def sentiment(scores: Sequence[float]) -> float | None:
    """The mood of a conversation in [-1, 1]: the mean of its person's messages, newer ones more.

    Args:
        scores: The mood of each message in [-1, 1], oldest first.

    Returns:
        None where there is none.
    """
    if not scores:
        return None
    return float(np.average(np.asarray(scores, dtype=np.float64), weights=weights(len(scores))))


def keywords(said: Sequence[tuple[str, float]], *, language: Language) -> list[str]:
    """The words that are said most, at most `KEYWORDS_MAX`, the most frequent first.

    Words of one stem count as one and are shown as the shortest of their forms that was said,
    without its plain Turkish endings.

    Args:
        said: Texts in their order, and what a word of each counts.
        language: `tr` or `en`, by whose rules letters are lowered and endings go.
    """
    counts: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for text, weight in said:
        for word in _WORD.findall(fold(text, language)):
            folded = plain(word)
            if folded in STOP_WORDS:
                continue
            root = stem(folded)
            counts[root] += weight  # type: ignore[assignment]  # a Counter counts halves as well
            form = without_suffixes(word) if language == "tr" else word
            if len(form) < len(shown.get(root, form + "x")):
                shown[root] = form
    # The sort is stable: of equal ones the first that was said comes first.
    ordered = sorted(counts, key=lambda root: -counts[root])
    return [shown[root] for root in ordered[:KEYWORDS_MAX]]


def tags(words: Sequence[str], *, language: str, intents: Sequence[str | None]) -> list[str]:
    """The tags of a conversation: its keywords, then its language, then its commonest intent.

    Args:
        words: Keywords.
        language: `tr` or `en`.
        intents: What was wanted, message by message; None and `unknown` tell nothing.
    """
    known = Counter(intent for intent in intents if intent and intent != "unknown")
    wanted = [f"intent:{known.most_common(1)[0][0]}"] if known else []
    return [*words, f"language:{language}", *wanted]
