"""Sentences of two languages, and the stems that they are compared by."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text.sentences import sentences, stems


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Ali geldi. Av. Ayşe gitti.", ["Dr. Ali geldi.", "Av. Ayşe gitti."]),
        ("Bkz. Ek 3. madde. Sonra bakın.", ["Bkz. Ek 3. madde.", "Sonra bakın."]),
        ("19. yüzyılda yaşadı. Öldü.", ["19. yüzyılda yaşadı.", "Öldü."]),
        ("It was 1998. Then came more.", ["It was 1998.", "Then came more."]),
        ("J. R. Smith wrote it. We read it.", ["J. R. Smith wrote it.", "We read it."]),
        ('"Evet." Sonra sustu.', ['"Evet."', "Sonra sustu."]),
        ("Wait... What? (Yes.) No.", ["Wait...", "What?", "(Yes.)", "No."]),
        ("Costs 3.5 euros a. m. today", ["Costs 3.5 euros a. m. today"]),
        ("A line\nthat goes on. Next", ["A line\nthat goes on.", "Next"]),
        ("# Title\n\nText here", ["# Title", "Text here"]),
        ("Items:\n- one\n- two", ["Items:", "- one", "- two"]),
        ("", []),
        ("  \n\n ", []),
    ],
)
def test_a_text_falls_into_its_sentences(text, parts):
    assert [each.text for each in sentences(text)] == parts


@given(st.text(alphabet='aB1ıİ.!?…"”) \n-#\u0130\u0307', max_size=200))
def test_sentences_stand_in_order_where_they_say_and_lose_nothing(text):
    found = list(sentences(text))

    assert all(text[each.start : each.end] == each.text for each in found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert "".join("".join(each.text for each in found).split()) == "".join(text.split())


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
