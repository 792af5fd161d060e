"""The guard of the semantic cache: may the answer to one question serve another?

Vectors hardly see a `not`, a number, a name or who does what to whom: sentences that differ in one
of them are nearer to each other than honest paraphrases are. So an answer is only reused when
both agree in the features read here. It is strict on purpose: a wrong refusal costs one
call of a model, a wrong hit is a wrong answer.
"""

import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from shared.text import Language, suffixes
from shared.text.language import detect
from shared.text.letters import casefold_tr, fold
from shared.text.stems import english_stem
from workers.cache import guard_words

VERSION: Final = 1  # of the signature; stored ones of another are not found
_PREFIX_MIN: Final = 4  # letters that two forms of one Turkish word share

_TOKEN: Final = re.compile(
    r"""(?P<quoted>"[^"]{1,200}"|“[^”]{1,200}”|`[^`]{1,200}`)
      | (?P<code>--?[a-z][\w-]+ | [\w.-]{0,80}[/\\_@][\w./\\@-]+ | \w+\.[a-z]\w* | [a-z]+[A-Z]\w*
               | [A-Z][A-Z0-9_]{2,} | (?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9-]{3,})
      | (?P<number>(?:(?<!\w)[-+])?[$€₺]?\d+(?:[.,:/-]\d+)*\s?[%$€₺]?)
      | (?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)
      | (?P<sign>[<>=≠≤≥+*/^&|~\#%])
      | (?P<end>[.?!:\n])""",
    re.VERBOSE,
)
_TURKISH_DENIAL: Final = re.compile(
    r"m[ıiuü]yor|ma(?:z|zsa|zlar)$|me(?:z|zse|zler)$|ma(?:dı|mış|yan|yacak|ması|malı|yın|dan|mak)"
    r"|me(?:di|miş|yen|yecek|mesi|meli|yin|den|mek)|ma(?:yız)|me(?:yiz)"
    r"|..[^\W\d]*s[ıiuü]z(?:l[ıiuü][kğ]\w*|[dt][ıiuü]r|l[ae]r\w*)?$"
)
_DENYING: Final = re.compile(r"m[ae]")
_NO_DENIAL: Final = re.compile(r"^(?:namaz|siz|sizin|um|em|yum|göm)(?:[iıuü]yor\w*)?$|^(?:eczane)")
_TURKISH_FUTURE: Final = re.compile(r"[ae]ca[kğ]|[ae]ce[kğ]")
_TURKISH_PAST: Final = re.compile(r"(?:[dt][ıiuü](?:m|n|k|n[ıi]z|l[ae]r)?|m[ıiuü]ş\w*)$")
_ABLATIVE: Final = re.compile(r"^[dt][ae]n")
_DIRECTION: Final = re.compile(r"\b(?:to|into|from|than|vs|versus|over|for|by)\b")
_TURNED_MIN: Final = 3  # words; of two, turned around, one is the other's opposite too often


@dataclass(frozen=True, slots=True)
class QuestionReading:
    """The features of a question that decide whether a cached answer fits.

    Attributes:
        signature: Hash of what must be equal, the first letters of all words included; hex. It is
            looked up by index and so selective that no other index is needed.
        words: Its content words, in order.
        has_direction: Whether a word such as `to` or `than` makes the order matter.
        has_cases: Whether case suffixes tell who does what in any order, as in Turkish.
    """

    signature: str
    words: tuple["ContentWord", ...]
    has_direction: bool
    has_cases: bool


@dataclass(frozen=True, slots=True)
class ContentWord:
    """A content word of a question.

    Attributes:
        stem: Its stem.
        form: The word as written, folded.
        is_name: Whether only the very same name matches it.
        has_suffixes: Whether it matches other forms of the same Turkish word.
    """

    stem: str
    form: str
    is_name: bool
    has_suffixes: bool


def read(question: str) -> QuestionReading:
    """Read a question: its language, what it asks, denies, opposes, counts and names."""
    language = detect(question)
    found: list[str] = [f"v{VERSION}", language]
    words: list[ContentWord] = []
    ordered: list[str] = []  # numbers, code and quotations, as they come
    marks: list[str] = []
    begins = True
    for token in _TOKEN.finditer(question):
        kind, text = str(token.lastgroup), token[0]
        if kind == "end":
            begins = True
            continue
        if kind == "word":
            _read_word(text, begins, language, (words, ordered, marks))
        else:
            ordered.append(re.sub(r"\s", "", text).strip('"“”`'))
        begins = False
    marks += _asks(question, language)
    if language == "tr" and words and _TURKISH_PAST.search(words[-1].form):
        marks.append("past")
    beginnings = sorted(word.stem[:_PREFIX_MIN] for word in words)
    found += [" ".join(sorted(_once(marks))), "\x1f".join(ordered), "\x1f".join(beginnings)]
    digest = hashlib.sha256("\x1e".join(found).encode("utf-8", "surrogatepass")).hexdigest()
    has_direction = _DIRECTION.search(question.lower()) is not None
    return QuestionReading(digest[:32], tuple(words), has_direction, language == "tr")


def _once(marks: list[str]) -> list[str]:
    """Marks as they are compared: denials are counted, all others are there or not."""
    return [mark for mark in marks if mark == "not"] + sorted(set(marks) - {"not"})


def agree(one: QuestionReading, other: QuestionReading) -> bool:
    """Return whether two questions ask the same, as far as their words tell.

    The words that carry meaning must match one by one. In English they stand in the same order, or
    turned around one point ("on Monday, is the office open"): any other order may swap who does
    what to whom. Turkish tells that by suffixes: words of the same forms may stand in any order,
    and where forms differ the order is the same and no two words have swapped a suffix.
    """
    if one.signature != other.signature or len(one.words) != len(other.words):
        return False
    pairs = list(zip(one.words, other.words, strict=True))
    if one.has_cases:
        return sorted(word.form for word in one.words) == sorted(
            word.form for word in other.words
        ) or (all(_match(*pair) for pair in pairs) and not _swapped(pairs))
    if one.has_direction or other.has_direction or len(pairs) < _TURNED_MIN:
        return all(_match(*pair) for pair in pairs)
    count = len(pairs)
    return any(
        all(_match(one.words[at], other.words[(at + turn) % count]) for at in range(count))
        for turn in range(count)
    )


def _swapped(pairs: Sequence[tuple[ContentWord, ContentWord]]) -> bool:
    """Return whether one word gained a suffix and another lost one; the last is mostly the verb."""
    gains = {len(one.form) < len(other.form) for one, other in pairs[:-1] if one.form != other.form}
    return len(gains) > 1


def _read_word(
    text: str,
    begins: bool,
    language: Language,
    into: tuple[list[ContentWord], list[str], list[str]],
) -> None:
    words, ordered, marks = into
    base, _, ending = text.replace("’", "'").partition("'")
    folded = fold(text.replace("’", "'"), language)
    if ending == "t" and folded.endswith("n't"):
        marks.append("not")
        return
    stem = fold(base, language)
    if stem in guard_words.NUMBERS and stem not in guard_words.NOT_NUMBERS:
        ordered.append(guard_words.NUMBERS[stem])
        return
    marks += _marks(stem, language)
    if _ABLATIVE.match(casefold_tr(ending)):
        marks.append("from")
    is_name = base[:1].isupper() and base != "I" and (not begins or bool(ending))
    measure = _lookup(_measures(), stem)
    if measure is not None:
        ordered.append(measure)
    elif is_name:
        words.append(ContentWord(stem, folded, is_name=True, has_suffixes=False))
    elif stem not in guard_words.EMPTY and not _is_mark(stem):
        words.append(ContentWord(_concept(stem, language), folded, False, language == "tr"))


def _marks(stem: str, language: Language) -> list[str]:
    marks = []
    pole = _lookup(_poles(), stem)
    if pole is not None:
        marks.append(pole)
    if stem in _denials() or (
        language == "tr" and _TURKISH_DENIAL.search(stem) and not _NO_DENIAL.match(stem)
    ):
        marks.append("not")
    if language == "tr" and _TURKISH_FUTURE.search(stem):
        marks.append("future")
    mark = _lookup(_named_marks(), stem)
    if mark is not None:
        marks.append(mark)
    return marks


def _is_mark(stem: str) -> bool:
    tables = (_asked(), _named_marks())
    return stem in _denials() or any(_lookup(table, stem) is not None for table in tables)


_PHRASES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"\bhow many\b|\bnumber of\b|\bsayısı"), "count"),
    (
        re.compile(r"\b(?:what|which) (?:time|year|date)\b|\bne zaman\b|\bhangi (?:yıl|tarih)"),
        "when",
    ),
    (re.compile(r"\b(?:what|which) place\b|\bhangi yer|\byer neres"), "where"),
    (re.compile(r"\bhow much\b|\bne kadar"), "much"),
    (re.compile(r"\b(?:have|has|had) to\b"), "must"),
    (re.compile(r"\bhow (?:do|does|did|can|could|should|to|is it possible)\b"), "how"),
)


def _asks(question: str, language: Language) -> set[str]:
    """The kinds of answer that the question asks for; each counts once."""
    folded = fold(question, language)
    asked = {name for pattern, name in _PHRASES if pattern.search(folded)}
    words = re.findall(r"[^\W\d_]+", folded)
    asked |= {name for word in words if (name := _lookup(_asked(), word)) is not None}
    if "how" not in asked and _CAN.search(folded):  # how one can is how one does
        asked.add("can")
    return asked


_CAN: Final = re.compile(
    r"\b(?:(?:can|could) (?!you\b)|may\b|might\b|able\b|possible\b)|[ae]bil|\bmümkün"
)


def _match(one: ContentWord, other: ContentWord) -> bool:
    if one.stem == other.stem:
        return True
    if one.is_name or other.is_name or not one.has_suffixes:
        return False
    pairs = zip(one.stem, other.stem, strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    # A negating suffix stands within the word: `yap-ma-dan`, `onayla-ma-mam`.
    denied = [len(_DENYING.findall(word.form)) for word in (one, other)]
    return (
        shared >= _PREFIX_MIN
        and denied[0] == denied[1]
        and all(_is_ending(word.stem[shared:]) for word in (one, other))
    )


def _is_ending(rest: str) -> bool:
    return (suffixes.NOUN.fullmatch(rest) or suffixes.VERB.fullmatch(rest)) is not None


def _concept(stem: str, language: Language) -> str:
    alike = _lookup(_alike(), stem)
    if alike is not None:
        return alike
    if language == "tr":
        return stem
    bare = english_stem(stem)
    return _lookup(_alike(), bare) or bare


Words = tuple[dict[str, str], dict[str, str]]  # whole words, and beginnings of words


def _lookup(table: Words, word: str) -> str | None:
    whole, beginnings = table
    if word in whole:
        return whole[word]
    for length in range(len(word), 1, -1):
        if word[:length] in beginnings:
            return beginnings[word[:length]]
    return None


def _table(groups: Iterable[tuple[str, str]]) -> Words:
    whole: dict[str, str] = {}
    beginnings: dict[str, str] = {}
    for name, words in groups:
        for word in words.split():
            if word.endswith("~"):
                beginnings.setdefault(word[:-1], name)
            else:
                whole.setdefault(word, name)
    return whole, beginnings


@cache
def _asked() -> Words:
    return _table(guard_words.ASKS.items())


@cache
def _poles() -> Words:
    return _table(
        (f"{number}{sign}", words)
        for number, axis in enumerate(guard_words.OPPOSITES)
        for sign, words in zip("+-", axis, strict=True)
    )


@cache
def _measures() -> Words:
    return _table((words.split()[0], words) for words in guard_words.MEASURES)


@cache
def _alike() -> Words:
    whole, beginnings = _table((words.split()[0].rstrip("~"), words) for words in guard_words.ALIKE)
    stems = {english_stem(word): name for word, name in whole.items() if word.isascii()}
    return stems | whole, beginnings


@cache
def _denials() -> frozenset[str]:
    return frozenset(guard_words.DENIALS.split())


@cache
def _named_marks() -> Words:
    return _table(
        {
            "from": guard_words.FROM,
            "future": guard_words.FUTURE,
            "past": guard_words.PAST,
            "by": guard_words.BY,
            "must": guard_words.MUST,
            "much": guard_words.PRICE,
        }.items()
    )
