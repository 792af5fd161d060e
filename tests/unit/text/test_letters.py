"""Letters fold by the rules of Turkish and English, and in one way for all who compare words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text.letters import bare, casefold_tr, fold, plain, unmarked


def test_turkish_capitals_keep_their_dots():
    assert casefold_tr("IĞDIR İZMİR ÇÖŞÜ") == "ığdır izmir çöşü"
    assert fold("TITLE İZMİR", "en") == "title izmir"


def test_a_decomposed_dotted_capital_keeps_its_dot():
    assert casefold_tr("I\u0307zmir ILIK") == "i\u0307zmir ılık"


@given(st.text(), st.sampled_from(["tr", "en"]))
def test_folding_keeps_every_offset(text, language):
    folded = fold(text, language)

    assert len(folded) == len(text) == len(unmarked(folded))
    assert fold(folded, language) == folded


@pytest.mark.thorough
@pytest.mark.parametrize("language", ["tr", "en"])
def test_no_code_point_folds_to_two(language):
    letters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]

    assert [letter for letter in letters if len(fold(letter, language)) != 1] == []


@pytest.mark.parametrize(
    "text", ["IŞIK", "ışık", "isik", "İŞİK", "I\u0307\u015eI\u0307K", "i\u0307şik"]
)
def test_a_word_is_plain_in_one_way_however_it_was_typed(text):
    assert plain(text) == "isik"


def test_only_bare_text_drops_the_accents_of_other_languages():
    assert (plain("ÉTÉ hâlâ"), bare("ÉTÉ hâlâ")) == ("été hala", "ete hala")


@given(st.text())
def test_a_second_pass_changes_nothing(text):
    assert plain(plain(text)) == plain(text)
    assert bare(bare(text)) == bare(text)
