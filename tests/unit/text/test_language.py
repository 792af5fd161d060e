"""Turkish is told from English."""

import pytest

from shared.text.language import detect, reads_turkish
from shared.text.letters import plain

TURKISH = [
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
    "Bu kod çalışmıyor, lütfen yardım edin.",
    "Kargom nerede kaldı?",
    "İSTANBUL BÜYÜKŞEHİR BELEDİYESİ MECLİS KARARLARI",
]
ENGLISH = [
    "All human beings are born free and equal in dignity and rights.",
    "This code does not work, please help.",
    "Where is my parcel?",
    "CONTACT INFORMATION AND INVOICES",
]


@pytest.mark.parametrize("text", TURKISH)
def test_turkish_is_detected(text):
    assert detect(text) == "tr"


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_detected(text):
    assert detect(text) == "en"


@pytest.mark.parametrize(
    "text", ["", " \n\t ", "1234 %%", "x = 1", "Guten Tag, meine Damen", "日本語"]
)
def test_what_is_neither_counts_as_english(text):
    assert detect(text) == "en"


def test_a_foreign_licence_on_top_does_not_hide_the_language():
    licence = "Permission is hereby granted, free of charge, to any person. " * 10

    assert (
        detect(licence + "\n\n" + "Bu belge, sistemin nasıl kurulduğunu anlatır.\n" * 100) == "tr"
    )


def test_megabytes_are_judged_by_a_sample():
    assert detect("Sistem nasıl kurulur?\n" * 500_000) == "tr"


@pytest.mark.parametrize("text", TURKISH)
def test_small_words_and_letters_tell_turkish(text):
    assert reads_turkish(set(plain(text).split()), text)


@pytest.mark.parametrize("text", [*ENGLISH, "", "naïve Özil scored, as he often does for them"])
def test_small_words_tell_english(text):
    assert not reads_turkish(set(plain(text).split()), text)


def test_what_was_typed_without_turkish_letters_is_told_by_its_words():
    assert reads_turkish({"ben", "bunu", "hic", "sevmedim"}, "ben bunu hic sevmedim")
