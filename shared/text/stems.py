"""Cheap stems of Turkish and English words.

Source: Can et al. 2008, "Information retrieval on Turkish texts": the first five letters of a word
find as much as a full analysis does.
"""

import re
from typing import Final

from shared.text.letters import bare
from shared.text.stop_words import GRAMMAR

STEM_CHARS: Final = 5
_WORD: Final = re.compile(r"[^\W_]+")
_ENGLISH_MIN: Final = 3
_ENGLISH_ENDING: Final = re.compile(r"(?<=\w{3})(?:ings?|ed|es|s|ly)$")


def stem(word: str, chars: int = STEM_CHARS) -> str:
    """The beginning of a word, which Turkish suffixes leave alone.

    Args:
        word: As `letters` spells it.
        chars: How much of it; more tells more words apart, less finds more forms of each.
    """
    return word[:chars]


def stems(text: str) -> list[str]:
    """The stems of the words that carry meaning, in order."""
    return [stem(word) for word in _WORD.findall(bare(text)) if word not in GRAMMAR]


def english_stem(word: str) -> str:
    """A word without its ending; not a word, but the same for all of its forms.

    Source: the first steps of Porter's stemmer (1980).
    """
    cut = _ENGLISH_ENDING.sub("", word)
    cut = cut[:-1] if len(cut) > _ENGLISH_MIN and cut[-1] in "ey" + cut[-2] else cut
    return cut[:-1] if len(cut) > _ENGLISH_MIN and cut[-1] == "i" else cut
