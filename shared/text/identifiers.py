r"""Personal identifiers: patterns of numbers and addresses, and their check digits.

Shapes are parts of patterns without what may stand around them, which a log line and a sentence
answer differently. Each is linear on hostile text: its parts are bounded or possessive. Whether a
number holds is decided by python-stdnum, for both readers alike; it is imported when the first
candidate is found, as it takes 30 ms and most processes never see one.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

EMAIL: Final = r"[\w.%+-]++@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{1,23}(?![\w-])"
# Turkish numbers are known by their 0 or +90, as ten bare digits are any number; others by the +
# of E.164.
PHONE: Final = (
    r"(?:(?:\+90|0090|0)[ .-]?\(?[2-5]\d{2}\)?[ .-]?\d{3}[ .-]?\d{2}[ .-]?\d{2}"
    r"|\+[1-9](?:[ .()-]{0,2}\d){8,14})"
)
TURKISH_IDENTITY: Final = r"[1-9]\d{10}"
CARD: Final = (
    r"(?:\d{13,19}|\d{4}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}(?:(?P=gap)\d{1,3})?"
    r"|3\d{3}(?P<gap_3>[ -])\d{6}(?P=gap_3)\d{4,5})"
)
_GROUPED_CHARS: Final = 19
IBAN_START: Final = r"[A-Z]{2}\d{2}(?= ?[A-Z0-9])"
_IBAN_REST: Final = re.compile(r"(?: ?[A-Z0-9]){11,30}")

# Visa, Mastercard, American Express, Diners Club, JCB, Troy, and those that begin with 6.
_ISSUED: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|9792\d{12}|6\d{15}"
)


def digits_of(text: str) -> str:
    """The digits of a text in ASCII, whatever stands between them."""
    return "".join(str(int(sign)) for sign in text if sign.isdecimal())


def is_turkish_identity(digits: str) -> bool:
    """Return whether a Turkish identity number (TCKN) has valid check digits. Source: Law 5490."""
    from stdnum.tr import tckimlik  # noqa: PLC0415

    return tckimlik.is_valid(digits)


def is_card(digits: str) -> bool:
    """Return whether a card's check digit is valid (1 in 10 numbers). Source: ISO/IEC 7812-1."""
    from stdnum import luhn  # noqa: PLC0415

    return luhn.checksum(digits) == 0


def card_chars(found: str, is_valid: Callable[[str], bool]) -> int:
    """Count the characters of a match of `CARD` that are a card; 0 for none.

    Another number may follow its four groups: `4111 1111 1111 1111 12/27`.

    Args:
        found: What the shape found.
        is_valid: Decides whether some digits are a card.
    """
    if is_valid(digits_of(found)):
        return len(found)
    grouped = found[:_GROUPED_CHARS]
    return _GROUPED_CHARS if grouped != found and is_valid(digits_of(grouped)) else 0


def is_issued_card(digits: str) -> bool:
    """Return whether a number is a card of a known issuer, by prefix, length and check digit."""
    return _ISSUED.fullmatch(digits) is not None and is_card(digits)


@cache
def iban_lengths() -> dict[str, int]:
    """The length of an IBAN by country. Source: the registry that stdnum ships."""
    from stdnum import numdb  # noqa: PLC0415

    return {
        country: len(country) + 2 + sum(map(int, re.findall(r"(\d+)!", found["bban"])))
        for _, country, _, found, _ in numdb.get("iban").prefixes
    }


def ibans(text: str, starts: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Find IBANs with their country's length and valid check digits, in order.

    Words in capitals may follow one, and what only looks like one may stand before it.

    Args:
        text: Any Unicode.
        starts: `IBAN_START`, with what may stand before it.

    Source: ISO 13616, check digits by ISO 7064, modulus 97.
    """
    end = 0
    for start in starts.finditer(text):
        rest = _IBAN_REST.match(text, start.end())
        if rest and start.start() >= end:
            chars = _iban_chars(text[start.start() : rest.end()])
            if chars:
                end = start.start() + chars
                yield start.start(), end


def _iban_chars(text: str) -> int:
    """Count the characters that are a valid IBAN; 0 where none is."""
    from stdnum.iso7064 import mod_97_10  # noqa: PLC0415

    length = iban_lengths().get(text[:2], 0)
    bare = text.replace(" ", "")[:length]
    if not length or len(bare) < length or mod_97_10.checksum(bare[4:] + bare[:4]) != 1:
        return 0
    places = [at for at, sign in enumerate(text) if sign != " "]
    return places[length - 1] + 1
