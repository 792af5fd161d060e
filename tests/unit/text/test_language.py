"""Turkish is told from English, and letters fold by the rules of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text.language import casefold_tr, detect, fold

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


def test_turkish_capitals_keep_their_dots():
    assert casefold_tr("IĞDIR İZMİR ÇÖŞÜ") == "ığdır izmir çöşü"
    assert fold("TITLE İZMİR", "en") == "title izmir"


def test_a_decomposed_dotted_capital_keeps_its_dot():
    assert casefold_tr("I\u0307zmir ILIK") == "i\u0307zmir ılık"


@given(st.text(), st.sampled_from(["tr", "en"]))
def test_folding_keeps_every_offset(text, language):
    folded = fold(text, language)

    assert len(folded) == len(text)
    assert fold(folded, language) == folded


@pytest.mark.parametrize("language", ["tr", "en"])
def test_no_code_point_folds_to_two(language):
    letters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]

    assert [letter for letter in letters if len(fold(letter, language)) != 1] == []
