"""Letters by Turkish and English rules: lower case, and spellings without marks to compare by.

`fold` is lower case, `plain` also writes Turkish letters as their ASCII neighbours, and `bare`
drops every accent. Code that looks for words in a text uses one of these three.
"""

import unicodedata
from typing import Final

from shared.text import Language

_TO_LOWER_TR: Final = str.maketrans({"I": "ı", "İ": "i"})
_TO_LOWER_EN: Final = str.maketrans({"İ": "i"})
_TO_ASCII: Final = str.maketrans("çğıöşüâîû", "cgiosuaiu")
_DECOMPOSED_I: Final = "i\u0307"


def casefold_tr(text: str) -> str:
    """Lower a text by Turkish rules: `I` to `ı`, `İ` to `i`.

    Returns:
        As many code points as the text has, so offsets hold in both.
    """
    # A decomposed İ is an I with a dot above: its I must not lose the dot.
    return _lowered(text.replace("I\u0307", _DECOMPOSED_I).translate(_TO_LOWER_TR))


def fold(text: str, language: Language) -> str:
    """Lower a text by the rules of its language, one code point for each.

    Returns:
        As many code points as the text has, so offsets hold in both.
    """
    return casefold_tr(text) if language == "tr" else _lowered(text.translate(_TO_LOWER_EN))


def unmarked(lowered: str) -> str:
    """Write the lower-case letters of Turkish as their neighbours in ASCII: `ı` is `i`, `ş` is `s`.

    Args:
        lowered: As `fold` gave it.

    Returns:
        As many code points as the text has, so offsets hold in both.
    """
    return lowered.translate(_TO_ASCII)


def plain(text: str) -> str:
    """Lower a text and write Turkish letters as ASCII, so that `IŞIK` and `isik` are equal.

    Returns:
        Text for comparing, in which offsets may differ: a dot above an i is dropped.
    """
    if text.isascii():
        return text.lower()
    return unmarked(casefold_tr(text).replace(_DECOMPOSED_I, "i"))


def bare(text: str) -> str:
    """Lower a text and drop every accent of any script, for the widest comparison.

    Returns:
        Text for comparing, in which offsets may differ: ligatures fall apart.
    """
    lowered = plain(text)
    if lowered.isascii():
        return lowered
    apart = unicodedata.normalize("NFKD", lowered).casefold()
    # Some of what falls apart is dotless again, as the i of formulas is.
    return unmarked("".join(sign for sign in apart if not unicodedata.combining(sign)))


def _lowered(text: str) -> str:
    # İ is the one letter that lower() makes longer, and it is gone by now. A final sigma is
    # written in two ways and means one letter.
    return text.lower().replace("ς", "σ")
