"""The mood of Turkish texts, by words, their suffixes and what turns them round.

A word counts if it is a stem of the list and what follows is made of Turkish suffixes. Negation
stands inside the word (`beğenmedim`, `sorunsuz`), after it (`memnun değilim`, `sorun yok`) or in
the verb it belongs to (`memnun kalmadım`, `hata vermiyor`). The sum is squeezed into [-1, 1] as
VADER does it: x / sqrt(x² + 15).

Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text" (2014), of which the rules for degrees, `but` and the squeeze are taken; the words and
the negation are our own.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from shared.text.letters import plain
from shared.text.sentences import sentences as split
from shared.text.suffixes import NEGATED, NOUN_CHAIN, VERB_CHAIN, pattern
from workers.domain.messages.sentiment_words import (
    BUT,
    NOMINALS,
    OTHERS,
    SIGNS,
    SMILES,
    SO_MUCH,
    STRONGER,
    TOGETHER,
    TURNING,
    VERBS,
)

TEXT_CHARS_MAX: Final = 2_000
_SQUEEZE: Final = 15.0
# VADER's: what is turned round is weaker than its opposite; before `but` half counts, after it
# half as much again.
_TURNED: Final = -0.74
_BEFORE_BUT: Final = 0.5
_AFTER_BUT: Final = 1.5
# How many words a negation reaches back within its clause.
_REACH: Final = 3
_NEUTRAL: Final = 0.05

_TOKEN: Final = re.compile(r"[a-z]+(?:'[a-z]+)?")
_CLAUSE: Final = re.compile(r"[.!?;,:\n]+|\b(?=(?:" + "|".join(sorted(BUT)) + r")\b)")

_ANY_NEGATED: Final = re.compile(r"[a-z]{1,}?" + NEGATED.pattern)
_WITHOUT: Final = pattern("(?:iyet|lI)?sIz")
# People who cannot do something are not pleased: `giriş yapamıyorum`.
_UNABLE: Final = pattern("[a-z]+AmIyor")
_UNABLE_VALUE: Final = -1.0
_STEM_CHARS_MIN: Final = 2


@dataclass(slots=True)
class _Word:
    """A word: its value, and whether something has turned it round already."""

    value: float
    turned: bool = False


def turkish(text: str) -> float:
    """The mood of a Turkish text in [-1, 1]: the mean of its sentences that have one, else 0.

    Args:
        text: Of any length; `TEXT_CHARS_MAX` code points of it are read.
    """
    return mean([_sentence(part) for part in sentences(text)])


def sentences(text: str) -> list[str]:
    """The sentences of as much of a text as is read."""
    return [one.text for one in split(text[:TEXT_CHARS_MAX], informal=True)]


def mean(scores: list[float]) -> float:
    """The mean of those that are not neutral; 0 where none is. VADER's bound of neutral is 0.05."""
    telling = [score for score in scores if abs(score) >= _NEUTRAL]
    return sum(telling) / len(telling) if telling else 0.0


def _sentence(text: str) -> float:
    folded = plain(text)
    signs = sum(value for sign, value in SIGNS.items() if sign in text)
    signs += sum(value for sign, value in SMILES.items() if sign in folded)
    for apart, together in TOGETHER.items():
        folded = folded.replace(apart, together)
    clauses = [_clause(_TOKEN.findall(clause)) for clause in _CLAUSE.split(folded)]
    but = max((at for at, (_, begins) in enumerate(clauses) if begins), default=0)
    total = sum(value * (_weight(at, but) if but else 1.0) for at, (value, _) in enumerate(clauses))
    return _squeezed(total + signs)


def _weight(at: int, but: int) -> float:
    return _AFTER_BUT if at >= but else _BEFORE_BUT


def _clause(tokens: list[str]) -> tuple[float, bool]:
    """The sum of a clause's words, and whether it begins with `but`."""
    words: list[_Word] = []
    degree, may_turn = 1.0, True
    for token in tokens:
        if token in STRONGER:
            degree *= STRONGER[token]
        elif token in SO_MUCH:
            may_turn = False
        elif token.startswith(TURNING):
            _turn(words)
        else:
            words.append(_Word(_value(token) * degree))
            if may_turn and _ANY_NEGATED.match(token):
                _turn(words[:-1], words[-1])
            degree = 1.0
    return sum(word.value for word in words), bool(tokens) and tokens[0] in BUT


def _turn(words: list[_Word], verb: _Word | None = None) -> None:
    """Turn the last of the words that has a mood; then the verb has none of its own."""
    for word in reversed(words[-_REACH:]):
        if word.value:
            if not word.turned:
                word.value, word.turned = word.value * _TURNED, True
                if verb is not None:
                    verb.value = 0.0
            return


def _squeezed(total: float) -> float:
    return total / math.sqrt(total * total + _SQUEEZE)


@cache
def _stems() -> tuple[frozenset[str], int]:
    stems = frozenset(NOMINALS) | frozenset(VERBS)
    return stems, max(map(len, stems))


def _value(token: str) -> float:
    """The value of a word: that of its longest stem followed by suffixes only; 0 if none."""
    word = token.partition("'")[0]
    stems, longest = _stems()
    if word in OTHERS:
        return 0.0
    for length in range(min(len(word), longest), _STEM_CHARS_MIN - 1, -1):
        stem, rest = word[:length], word[length:]
        if stem not in stems:
            continue
        if stem in VERBS and rest:
            stands, negated = VERBS[stem]
            if NEGATED.match(rest):
                return negated
            if VERB_CHAIN.fullmatch(rest):
                return stands
        if stem in NOMINALS and NOUN_CHAIN.fullmatch(rest):
            value = NOMINALS[stem]
            return value * _TURNED if _WITHOUT.match(rest) else value
    return _UNABLE_VALUE if _UNABLE.match(word) else 0.0
