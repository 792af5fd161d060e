"""Personal data: numbers whose check digits hold, addresses of mail, telephones.

Scores stay below the block threshold: such data is to be seen to, not refused. What the numbers
look like, and what proves them, stands in `shared.text.identifiers`.
"""

import re
from collections.abc import Iterator
from typing import Final

from shared.text import identifiers

CHECKED: Final = 0.85  # its check digits hold
SHAPED: Final = 0.6  # it only looks right
_MAIL: Final = re.compile(rf"(?<![\w.%+/:-]){identifiers.EMAIL}")
_PHONE: Final = re.compile(rf"(?<![\w+]){identifiers.PHONE}(?!\d|[.-]\d)")
_PHONE_DIGITS: Final = range(10, 16)  # E.164 has at most 15
_DIGITS: Final = re.compile(r"\d{2}")
_IDENTITY: Final = re.compile(rf"(?<!\d){identifiers.TURKISH_IDENTITY}(?!\d)")
_CARD: Final = re.compile(rf"(?<!\d){identifiers.CARD}(?!\d)")
_IBAN_START: Final = re.compile(rf"\b{identifiers.IBAN_START}")


def personal_data(text: str) -> Iterator[tuple[float, int, int]]:
    """Score, start and end of each piece of personal data in a visible text."""
    if "@" in text:
        yield from ((SHAPED, *one.span()) for one in _MAIL.finditer(text))
    if _DIGITS.search(text):
        for one in _PHONE.finditer(text):
            if len(identifiers.digits_of(one[0])) in _PHONE_DIGITS:
                yield SHAPED, *one.span()
        yield from ((CHECKED, start, end) for start, end in _checked(text))


def _checked(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers stand whose check digits hold."""
    for one in _IDENTITY.finditer(text):
        if identifiers.is_turkish_identity(identifiers.digits_of(one[0])):
            yield one.span()
    for one in _CARD.finditer(text):
        # Without its issuer every tenth long number would pass for a card.
        if chars := identifiers.card_chars(one[0], identifiers.is_issued_card):
            yield one.start(), one.start() + chars
    for start, end in identifiers.ibans(text, _IBAN_START):
        # A number that goes on is another number.
        if not text[end : end + 1].strip():
            yield start, end
