"""Words that are abuse wherever they stand: whole words, with the suffixes of their language.

A stem is listed only where no clean word shares its spelling. `~` before a stem: it counts only
where no dotless ı was written (`siktir` is abuse, `sıktır` says that something is frequent). `=`:
its Turkish letters must be there (`göt`, not `got`).
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

from shared.text.suffixes import CALLED
from workers.domain.judgement.moderation.folding import FoldedWord, folded, marked, other_reading

_PREFIX: Final = 3
_LONG_MIN: Final = 5  # stems this long are looked for in words that are cut or stretched as well
_BACK: Final = frozenset("aıou")
_SUFFIX_CHARS_MAX: Final = 16

# category score: stems
_TURKISH: Final = """
harassment 0.6: salak aptal ahmak dangalak embesil beyinsiz kuşbeyinli mankafa lavuk zibidi denyo
harassment 0.6: hödük sersem kıro moron şapşal andaval çomar soysuz
harassment 0.65: gerizekalı gerzekalı gerzek gerizeka yalaka =kahpe edepsiz utanmaz arsız
harassment 0.75: şerefsiz haysiyetsiz namussuz yavşak şıllık sürtük kaltak kancık sütübozuk
harassment 0.75: kanıbozuk itoğluit eşekoğlueşek eşşoğlueşek eşşoleşek kevaşe aşüfte boktan
harassment 0.75: sıçarım sıçayım sıçtığımın geberesice kahpedölü itdölü
harassment 0.85: =piç piçkurusu pezevenk gavat godoş deyyus =puşt =göt götveren götlek götoş
harassment 0.85: orospu orosbu oruspu orospuçocuğu orospuevladı dalyarak amcık yarrak yarram
harassment 0.85: taşşak taşak amk amq =amına =amcığ amınakoyim amınakoyayım amınakoyarım amınako
harassment 0.85: amınakoduğum ananısikeyim anansikeyim anasınısikeyim amcıkağızlı
harassment 0.85: ~siktir ~siktirgit ~siktirol ~hassiktir ~hasiktir sikeyim sikiyim siker sikece
harassment 0.85: sikeceğ sikecek sikicem ~siktiğim ~siktiğimin ~sikik ~siktirip sikko sikkafalı
hate 0.85: ibne
sexual 0.6: porno pornocu pornografik mastürbasyon
"""
_ENGLISH: Final = """
harassment 0.55: fuck shit shitty bullshit dumbass jackass asshat moron
harassment 0.7: asshole arsehole dickhead motherfucker motherfuckin fuckface shithead bitch cunt
harassment 0.7: wanker twat douchebag scumbag slut whore fuckwit dipshit fucktard fucker stfu
hate 0.85: nigger nigga faggot kike wetback raghead towelhead gook tranny shemale
sexual 0.6: porn pornographic blowjob handjob cumshot gangbang creampie milf deepthroat hentai
"""

# A stem and its suffix by their letters alone: the number of the Greek social security, a surname.
_CLEAN: Final = frozenset({"amka", "pornin"})
_ENGLISH_SUFFIXES: Final = re.compile(r"(?:s|es|ed|er|ers|ing|in|y|ies|ish)?")


class AbusiveStem(NamedTuple):
    """A listed stem as it is looked up and as it is written; `how` is one of "", `~` and `=`."""

    plain: str
    written: str
    how: str
    category: str
    score: float
    suffixes: re.Pattern[str]


class AbusiveWord(NamedTuple):
    """A listed word that was found, at its place in the visible text."""

    category: str
    score: float
    start: int
    end: int


def abuses(found: list[FoldedWord], cut: list[FoldedWord], text: str) -> Iterator[AbusiveWord]:
    """Find abusive words.

    Args:
        found: The words of a text, as `folding.words` gave them.
        cut: Words that signs may have cut, as `folding.broken` gave them.
        text: The visible text that they came from.
    """
    masks, ones = "*" in text, "1" in text or "$" in text or "@" in text
    for word in found:
        stem = _first(_BY_PREFIX.get(word.plain[:_PREFIX], ()), word, text)
        if stem is None and (masks or ones or _DOUBLED.search(word.plain)):
            stem = _disguised(word, text)
        if stem:
            yield AbusiveWord(stem.category, stem.score, word.start, word.end)
    for word in cut:
        stem = _first(_LONG_BY_PREFIX.get(word.plain[:_PREFIX], ()), word, text)
        if stem:
            yield AbusiveWord(stem.category, stem.score, word.start, word.end)


def _first(
    candidates: "tuple[AbusiveStem, ...] | list[AbusiveStem]", word: FoldedWord, text: str
) -> AbusiveStem | None:
    for stem in candidates:
        if word.plain.startswith(stem.plain):
            rest = word.plain[len(stem.plain) :]
            fits = len(rest) <= _SUFFIX_CHARS_MAX and stem.suffixes.fullmatch(rest)
            if (
                fits
                and word.plain not in _CLEAN
                and (not stem.how or _is_written(stem, text[word.start : word.end]))
            ):
                return stem
    return None


def _is_written(stem: AbusiveStem, surface: str) -> bool:
    """Return whether the letters that decide stand as they must in the word as it was written."""
    letters = "".join(sign for sign in marked(surface) if sign.isalnum())
    if stem.how == "=":
        return letters.startswith(stem.written)
    return "ı" not in letters[: len(stem.plain)]


def _disguised(word: FoldedWord, text: str) -> AbusiveStem | None:
    """A stem behind a `1` for an l, a sign for its first letter, a doubled vowel, or stars."""
    surface = text[word.start : word.end]
    if "*" in surface:
        return _masked(word.plain)
    before = {"$": "s", "@": "a"}.get(text[word.start - 1 : word.start], "")
    readings = (other_reading(folded(surface)), _DOUBLED.sub(r"\1", word.plain))
    for plain in (*readings, before and before + word.plain):
        if plain and plain != word.plain:
            again = FoldedWord(plain, word.start, word.end)
            stem = _first(_LONG_BY_PREFIX.get(plain[:_PREFIX], ()), again, text)
            if stem:
                return stem
    return None


def _masked(plain: str) -> AbusiveStem | None:
    for stem in _MASKABLE.get(plain[:1], ()):
        covered = plain[: len(stem.plain)]
        fits = len(covered) == len(stem.plain) and all(
            sign in ("*", letter) for sign, letter in zip(covered, stem.plain, strict=True)
        )
        if fits and 0 < covered.count("*") <= len(covered) // 2:
            rest = plain[len(covered) :]
            if len(rest) <= _SUFFIX_CHARS_MAX and stem.suffixes.fullmatch(rest):
                return stem
    return None


def _stems() -> Iterator[AbusiveStem]:
    for listed, turkish in ((_TURKISH, True), (_ENGLISH, False)):
        for line in listed.strip().splitlines():
            head, _, names = line.partition(":")
            category, _, score = head.partition(" ")
            for name in names.split():
                written = name.lstrip("~=")
                yield from _forms(written, name[: -len(written)], category, float(score), turkish)


def _forms(
    written: str, how: str, category: str, score: float, turkish: bool
) -> Iterator[AbusiveStem]:
    plain = folded(written)
    if not turkish:
        yield AbusiveStem(plain, written, how, category, score, _ENGLISH_SUFFIXES)
        return
    vowels = [letter for letter in written if letter in "aeıioöuü"]
    suffixes = CALLED["a" if not vowels or vowels[-1] in _BACK else "e"]
    yield AbusiveStem(plain, written, how, category, score, suffixes)
    if plain.endswith("k"):  # salak, salağı
        yield AbusiveStem(f"{plain[:-1]}g", f"{written[:-1]}ğ", how, category, score, suffixes)


def _by(size: int, stems: Iterator[AbusiveStem]) -> dict[str, list[AbusiveStem]]:
    table: dict[str, list[AbusiveStem]] = defaultdict(list)
    for stem in stems:
        table[stem.plain[:size]].append(stem)
    return dict(table)


_DOUBLED: Final = re.compile(r"([aeiou])\1")
_BY_PREFIX: Final = _by(_PREFIX, _stems())
_LONG_BY_PREFIX: Final = _by(
    _PREFIX, (stem for stem in _stems() if len(stem.plain) >= _LONG_MIN and stem.how != "=")
)
_MASKABLE: Final = _by(1, (stem for stem in _stems() if len(stem.plain) > _PREFIX))
