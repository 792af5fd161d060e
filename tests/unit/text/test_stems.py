"""Stems: one for the forms of a word, none for words without meaning."""

import pytest

from shared.text import stop_words
from shared.text.stems import english_stem, stem, stems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("IŞIK", "ışık"),
        ("İstanbul'un", "istanbul"),
        ("iskelelerinde", "İSKELELER"),
        ("yedekleme", "yedeklerin"),
        ("education", "Educational"),
        ("ÖĞRENİM", "öğrenim"),
    ],
)
def test_words_of_one_root_have_one_stem(one, other):
    assert stems(one)[0] == stems(other)[0]


def test_words_without_meaning_are_no_stems():
    assert stems("Bu ne için? What is the of it?") == []


def test_more_letters_tell_more_words_apart():
    assert stem("yanıtla") == stem("yanıtsız")
    assert stem("yanıtla", 6) != stem("yanıtsız", 6)


@pytest.mark.parametrize(
    "words", ["cancel cancels canceled", "study studies studied", "run runs running"]
)
def test_english_forms_have_one_stem(words):
    first, *others = map(english_stem, words.split())

    assert {*others} == {first}


def test_no_group_repeats_a_word_of_another_of_its_language():
    groups = [vars(stop_words)[name] for name in sorted(vars(stop_words)) if name.endswith("_TR")]

    assert sum(map(len, groups)) == len(frozenset().union(*groups)) > 0
    assert stop_words.GRAMMAR < stop_words.STOP_WORDS
