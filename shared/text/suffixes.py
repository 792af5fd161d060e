"""Turkish suffixes: what may follow a stem and leave it the word that it is.

Sounds that change by harmony are capitals here: `A` is a or e, `I` one of ı, i, u and ü, `D` d or
t, `K` k, g or ğ, `S` s or ş. So one grammar reads what was typed with Turkish letters and what was
typed without. The grammars are made of the same parts and differ in how far a word may go from
its stem, for their readers pay differently for a word that is taken for another.
"""

import re
from typing import Final

_SOUNDS: Final = {"I": "[ıiuü]", "D": "[dt]", "K": "[kgğ]", "S": "[sş]"}
_KEPT_CHARS_MIN: Final = 4


def pattern(template: str, *, a: str = "[ae]") -> re.Pattern[str]:
    """A grammar of suffixes as a pattern.

    Args:
        template: A pattern with the capitals that the head of this page names.
        a: What `A` stands for: `a` after the vowels a, ı, o, u; `e` after the others.
    """
    for sound, letters in {"A": a, **_SOUNDS}.items():
        template = template.replace(sound, letters)
    return re.compile(template)


_POSSESSIVE: Final = "(?:I?m(?:Iz)?|I?n(?:Iz)?|s?I|lArI)"
_CASE: Final = "(?:y?I|nI|[yn]?A|n?dAn?|tAn?|n?In|y?lA)"
_NOUN: Final = f"(?:lAr)?{_POSSESSIVE}?{_CASE}?"

# The same noun or verb in another form; nothing that makes another word of it.
NOUN: Final = pattern(f"{_NOUN}(?:ki(?:ler)?)?(?:dIr)?")
VERB: Final = pattern(
    "(?:n|I?[ln])?(?:y?Abil)?"
    "(?:[ıiuüae]?r|I?yor|mAktA|DI|mIS|y?AcAK|mAlI|y?An|DIK|mAk?|y?Ip|sA)?"
    "(?:I?m|sIn|Iz|yIm|yIz|k|n|lAr|InIz|I|sI|ImIz|lArI)?"
    "(?:n?DAn?|n?In|[yn]?A)?(?:dIr|dI)?"
)

# A noun that somebody is called: with derivations (-lık, -ca, -cık, -lı, -sız) and with what makes
# a sentence of it. One pattern for each vowel that suffixes agree with.
_CALLED: Final = (
    f"(?:lIK|cA|cIK|lI|sIz)?{_NOUN}"
    "(?:y?Im|sIn|sInIz|y?Iz|DIr|lAr|y?mIS|y?DI[mnk]?|y?sA|mI)?(?:sIn(?:Iz)?|lAr|DIr)?"
)
CALLED: Final = {vowel: pattern(_CALLED, a=vowel) for vowel in "ae"}

# Chains of suffixes in any order, derivations among them: they also find words that the stem has
# grown into (`ilgi`, `ilgilenmek`), and some that it has not (`geç`, `gece`).
NOUN_CHAIN: Final = pattern(
    "(?:lAr|lIK|lI|cA|iyet|sIz|ImIz|InIz|Im|In|sInIz|sIn|sI|yIm|yIz|yI|nIn|nI|I|yA|nA|A|n?dAn?"
    "|tAn?|ylA|lA|DIr|ydI|DI|ymIS|mIS|ysA|sA|ken|yken|kI|m|n|z|k){0,5}"
)
VERB_CHAIN: Final = pattern(
    "(?:y?Abil|Il|In|DIr|t|n|l|Iyor|yor|DI|mIS|[ıiuüae]r|r|y?AcAK|y?An|DIK|y?IncA|y?Ip|y?ArAk|sA"
    "|mAlI|mAk|mA|gI|IcI|m|n|k|z|Im|Iz|sInIz|sIn|nIz|lAr|sI|I|A|dAn?|ylA|lA|ydI|nIn|nI|yI|Is"
    "|lIm){0,6}"
)
# Negation within a verb: `-mi-yor`, `-me-di`, `-me-z`, `-me-miş`, `-me-yecek`, `-me-den` and so on.
NEGATED: Final = pattern(
    "(?:Il|In|n|l|t|DIr)?(?:y?A)?m(?:Iyor|AdI|Az|AmIS|AyecA|Ayac|AyAn|AdAn|AmAk|AmAl|Am$|AyIz|AksIz"
    "|AsA(?:m|n|k|lAr|ydI)?$)"
)

# Endings that no noun has by itself: plural, cases, and possessives together with a case.
_ENDINGS: Final = pattern(
    "(?:lAr(?:I(?:mIz|nIz)?|In|Im)?)?(?:I?mIz?|InIz|sI(?=n))?(?:n?DAn?|n?In|yI|nI|y?lA|yA|mI)?$"
)


def without_suffixes(word: str) -> str:
    """A lower-case word without its plain endings, if enough of it is left to be shown."""
    found = _ENDINGS.search(word)
    cut = word[: found.start()] if found else word
    return cut if len(cut) >= _KEPT_CHARS_MIN else word
