"""Secrets: keys and tokens that somebody issued, passwords by what stands before them."""

import re
from collections.abc import Iterator
from typing import Final

from shared.text import secrets

ISSUED: Final = 0.95
SAID: Final = 0.7  # somebody called it a password

_ISSUED: Final = re.compile(rf"(?<![\w-])(?:{secrets.ISSUED})|{secrets.PRIVATE_KEY}")
_SIGN: Final = r"[^\s\"'<>${}%()\[\]]"
_SAID: Final = re.compile(
    rf"(?i:\b{secrets.SAID_NAMES} ?(?:[=:]|(?i:is\b|şu:)) ?[\"']?)"
    rf"(?={_SIGN}{{0,40}}\d)(?={_SIGN}{{0,40}}[A-Za-z]){_SIGN}{{8,64}}(?![(\[])"
    r"|\b[a-z][a-z0-9+]{1,15}://[^\s/:@]{1,64}:[^\s/:@<>${}]{6,64}@[\w.-]{3,100}"
)
# What documentation writes where a reader shall put his own.
_EXAMPLE: Final = re.compile(r"(?i)example|x{6}|\.\.\.|your|changeme|(.)\1{7}")


def secrets_in(text: str) -> Iterator[tuple[float, int, int]]:
    """Score, start and end of each secret in a visible text."""
    for score, pattern in ((ISSUED, _ISSUED), (SAID, _SAID)):
        for one in pattern.finditer(text):
            if not _EXAMPLE.search(one[0]):
                yield score, *one.span()
