"""Moderation by rules: what a text holds that should not pass, in Turkish and English.

Small on purpose: checksummed personal data, secrets, attempts to command a model, some threats.
It does not understand meaning; `BLIND` says so in each result.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

ENGINE: Final = "local-rules"
BLIND: Final = (
    "irony, images, languages other than Turkish and English, insults without listed words"
)
FLAG_AT: Final = 0.5
BLOCK_AT: Final = 0.9
WINDOW_CHARS: Final = 20_000
WINDOW_OVERLAP: Final = 200
_CARD_DIGITS: Final = range(13, 20)
_TCKN_DIGITS: Final = 11

_FOLD: Final = str.maketrans(
    {"İ": "i", "I": "ı", "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "@": "a", "$": "s"}
)
_ASCII: Final = str.maketrans("ıçğöşü", "icgosu")

# (category, score, pattern over the folded text); a score is how sure the rule is.
_PHRASES: Final[tuple[tuple[str, float, re.Pattern[str]], ...]] = tuple(
    (category, score, re.compile(pattern))
    for category, score, pattern in (
        (
            "prompt_injection",
            0.8,
            r"(ignore|disregard|forget) (all |any )?(the )?(previous|prior|above) "
            r"(instructions|prompts|rules)",
        ),
        (
            "prompt_injection",
            0.8,
            r"(onceki|yukaridaki) (tum )?(talimat|komut|kural)\w* (yok say|unut|dikkate alma)\w*",
        ),
        ("prompt_injection", 0.6, r"(reveal|print|show) (your |the )?system prompt"),
        ("violence", 0.9, r"\b(i will|i am going to|i'll) (kill|stab|shoot) (you|him|her|them)\b"),
        ("violence", 0.9, r"\b(seni|onu|hepinizi|sizi) (oldurecegim|vuracagim|gebertecegim)\b"),
        ("harassment", 0.7, r"\byou (are|re) (an? )?(idiot|moron|stupid bastard)\b"),
        ("harassment", 0.7, r"\b(salak|gerizekali|serefsiz)(sin|siniz|lar)?\b"),
    )
)
_SECRETS: Final = re.compile(
    r"\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|\bghp_[A-Za-z0-9]{36}\b"
)
_DIGITS: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){10,18}(?!\d)")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_MAIL: Final = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_PHONE: Final = re.compile(r"(?<!\d)(?:\+90|0)[ ]?\(?5\d{2}\)?[ -]?\d{3}[ -]?\d{2}[ -]?\d{2}(?!\d)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; `scores` by category in [0, 1], `spans` where, as (category, start, end)."""

    scores: dict[str, float]
    spans: tuple[tuple[str, int, int], ...]

    @property
    def categories(self) -> list[str]:
        """The categories at or above `FLAG_AT`, in order."""
        return sorted(name for name, score in self.scores.items() if score >= FLAG_AT)

    @property
    def action(self) -> str:
        """`block`, `flag` or `allow`, by the highest score."""
        highest = max(self.scores.values(), default=0.0)
        return "block" if highest >= BLOCK_AT else "flag" if highest >= FLAG_AT else "allow"


def judge(text: str) -> Verdict:
    """Judge a text of any length, by windows: a category's score is that of its worst window."""
    scores: dict[str, float] = {}
    spans: list[tuple[str, int, int]] = []
    for start in range(0, max(len(text), 1), WINDOW_CHARS - WINDOW_OVERLAP):
        for category, score, begin, end in _found(text[start : start + WINDOW_CHARS]):
            scores[category] = max(scores.get(category, 0.0), score)
            spans.append((category, start + begin, start + end))
    return Verdict(scores, tuple(dict.fromkeys(spans)))


def folded(text: str) -> str:
    """A text as phrases are looked for in it: lower case, Turkish letters and common swaps undone.

    Each character becomes one character, so that places stay what they are.
    """
    return "".join(
        one if len(one) == 1 else one[0] for one in map(str.lower, text.translate(_FOLD))
    ).translate(_ASCII)


def _found(text: str) -> Iterator[tuple[str, float, int, int]]:
    plain = folded(text)
    for category, score, pattern in _PHRASES:
        yield from ((category, score, one.start(), one.end()) for one in pattern.finditer(plain))
    yield from (("secret", 0.95, one.start(), one.end()) for one in _SECRETS.finditer(text))
    checked: tuple[tuple[re.Pattern[str], float, Callable[[str], bool]], ...] = (
        (_DIGITS, 0.85, _is_number_of_a_person),
        (_IBAN, 0.85, _is_iban),
        (_MAIL, 0.6, bool),
        (_PHONE, 0.6, bool),
    )
    for pattern, score, holds in checked:
        for one in pattern.finditer(text):
            if holds(one[0]):
                yield "pii", score, one.start(), one.end()


def _is_number_of_a_person(text: str) -> bool:
    digits = [int(sign) for sign in text if sign.isdigit()]
    return _is_tckn(digits) or (len(digits) in _CARD_DIGITS and _is_luhn(digits))


def _is_tckn(digits: list[int]) -> bool:
    """A Turkish identity number. Source: the check digits of the Nüfus register, Law 5490."""
    if len(digits) != _TCKN_DIGITS or digits[0] == 0:
        return False
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return digits[9] == tenth and digits[10] == sum(digits[:10]) % 10


def _is_luhn(digits: list[int]) -> bool:
    """A card's number. Source: ISO/IEC 7812-1, annex B."""
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """An account's number. Source: ISO 13616, modulus 97."""
    bare = text.replace(" ", "")
    return int("".join(str(int(sign, 36)) for sign in bare[4:] + bare[:4])) % 97 == 1
