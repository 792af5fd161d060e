"""Sentences of two languages, with their places."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text.sentences import sentences


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Ali geldi. Av. Ayşe gitti.", ["Dr. Ali geldi.", "Av. Ayşe gitti."]),
        ("Bkz. Ek 3. madde. Sonra bakın.", ["Bkz. Ek 3. madde.", "Sonra bakın."]),
        ("Fık. A uygulanır. FIK. B de.", ["Fık. A uygulanır.", "FIK. B de."]),
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


@pytest.mark.parametrize("piece", ["A. ", "Dr. ", "19. ", "a.) ", "x", "!", "1.\n"])
def test_long_texts_without_an_end_cost_as_their_length(piece):
    begun = time.process_time()
    list(sentences(piece * 30_000))

    assert time.process_time() - begun < 2  # 0.1 s; looking back to its start takes a minute
