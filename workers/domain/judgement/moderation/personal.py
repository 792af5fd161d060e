"""Personal data: numbers whose check digits hold, addresses of mail, telephones.

Scores stay below the block threshold: such data is to be seen to, not refused.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

CHECKED: Final = 0.85  # its check digits hold
SHAPED: Final = 0.6  # it only looks right
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
_MAIL: Final = re.compile(r"(?<![\w.+/:-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
# Turkish numbers (mobile, city) with their 0 or +90, and any in the form of E.164.
_PHONE: Final = re.compile(
    r"(?<![\w+])(?:(?:\+90|0)[ ]?\(?[2-5]\d{2}\)?[ -]?\d{3}[ -]?\d{2}[ -]?\d{2}"
    r"|\+[1-9]\d{0,2}(?:[ -]?\(?\d{2,4}\)?){2,5})(?!\d)"
)
_PHONE_DIGITS: Final = range(10, 16)  # E.164 has at most 15
_DIGITS: Final = re.compile(r"\d{2}")


def personal_data(text: str) -> Iterator[tuple[float, int, int]]:
    """Score, start and end of each piece of personal data in a visible text."""
    if "@" in text:
        yield from ((SHAPED, *one.span()) for one in _MAIL.finditer(text))
    if not _DIGITS.search(text):
        return
    for one in _PHONE.finditer(text):
        if sum(map(str.isdigit, one[0])) in _PHONE_DIGITS:
            yield SHAPED, *one.span()
    for pattern, measure in _CHECKS:
        for one in pattern.finditer(text):
            if length := measure(one[0]):
                yield CHECKED, one.start(), one.start() + length


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


_CHECKS: Final[tuple[tuple[re.Pattern[str], Callable[[str], int]], ...]] = (
    (_TCKN, _tckn),
    (_CARD, _card),
    (_IBAN, _iban),
)
