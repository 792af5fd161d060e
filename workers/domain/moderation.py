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
_FOLD: Final = str.maketrans(
    {"İ": "i", "I": "ı", "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "@": "a", "$": "s"}
)
_ASCII: Final = str.maketrans("ıçğöşüâîû", "icgosuaiu")
# What a reader does not see, or sees on the letter before: it hides nothing from the rules.
_UNSEEN: Final = re.compile("[\u0300-\u036f\u00ad\u200b-\u200f\u2060\ufeff]")

# (category, score, pattern over the folded text); a score is how sure the rule is. A space stands
# for any white space.
_PHRASES: Final[tuple[tuple[str, float, re.Pattern[str]], ...]] = tuple(
    (category, score, re.compile(pattern.replace(" ", r"\s{1,20}")))
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
_TCKN: Final = re.compile(r"(?<![0-9])[1-9][0-9]{10}(?![0-9])")
_CARD: Final = re.compile(
    r"(?<![0-9])(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
    r"|3[47][0-9]{2}([ -])[0-9]{6}\2[0-9]{5})(?![0-9])"
)
# Visa, Mastercard, American Express, Troy, and those that begin with 6. Without its issuer every
# tenth long number would pass for a card.
_ISSUED: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|9792\d{12}|6\d{15}"
)
# Source: the IBAN registry of ISO 13616. A length per country tells where a number ends.
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in (
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI NL"),
        (19, "SI"),
        (20, "AT EE LT LU"),
        (21, "CH HR LV"),
        (22, "BG DE GB IE"),
        (24, "CZ ES RO SE SK"),
        (25, "PT"),
        (26, "TR"),
        (27, "FR GR IT"),
        (28, "AZ CY HU PL"),
        (31, "MT"),
    )
    for country in countries.split()
}
_IBAN: Final = re.compile(rf"\b(?:{'|'.join(_IBAN_LENGTHS)})[0-9]{{2}}(?: ?[A-Z0-9]){{11,30}}")
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
    if not _UNSEEN.search(text):
        yield from _seen(text)
        return
    places = [at for at, sign in enumerate(text) if not _UNSEEN.match(sign)]
    for category, score, begin, end in _seen(_UNSEEN.sub("", text)):
        yield category, score, places[begin], places[end - 1] + 1


def _seen(text: str) -> Iterator[tuple[str, float, int, int]]:
    plain = folded(text)
    for category, score, pattern in _PHRASES:
        yield from ((category, score, one.start(), one.end()) for one in pattern.finditer(plain))
    yield from (("secret", 0.95, one.start(), one.end()) for one in _SECRETS.finditer(text))
    checked: tuple[tuple[re.Pattern[str], float, Callable[[str], int]], ...] = (
        (_TCKN, 0.85, _tckn),
        (_CARD, 0.85, _card),
        (_IBAN, 0.85, _iban),
        (_MAIL, 0.6, len),
        (_PHONE, 0.6, len),
    )
    for pattern, score, measure in checked:
        for one in pattern.finditer(text):
            if length := measure(one[0]):
                yield "pii", score, one.start(), one.start() + length


# Each tells how many characters of what its pattern found are the number: 0 for none of them.


def _tckn(text: str) -> int:
    """A Turkish identity number. Source: the check digits of the Nüfus register, Law 5490."""
    digits = [int(sign) for sign in text]
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    holds = digits[9] == tenth and digits[10] == sum(digits[:10]) % 10
    return len(text) if holds else 0


def _card(text: str) -> int:
    """A card's number. Source: ISO/IEC 7812-1, annex B."""
    bare = re.sub("[ -]", "", text)
    digits = [int(sign) for sign in bare]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    holds = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and _ISSUED.fullmatch(bare)
    return len(text) if holds else 0


def _iban(text: str) -> int:
    """An account's number; words in capitals may follow it. Source: ISO 13616, modulus 97."""
    places = [at for at, sign in enumerate(text) if sign != " "]
    length = _IBAN_LENGTHS[text[:2]]
    if len(places) < length:
        return 0
    end = places[length - 1] + 1
    bare = text[:end].replace(" ", "")
    remainder = int("".join(str(int(sign, 36)) for sign in bare[4:] + bare[:4])) % 97
    return end if remainder == 1 and not text[end : end + 1].strip() else 0
