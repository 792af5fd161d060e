"""Token counts are tiktoken's, whoever counts."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigurationBroken
from shared.text import tokens
from tests.support.patience import patience

REFERENCE = tokens.tiktoken_encoding()
SLOW = tokens.tiktoken_counter_of(REFERENCE)
FAST = tokens.splintr_counter()
PIECES = st.sampled_from(
    [
        "<|",
        "|>",
        "<|endoftext|>",
        "\n",
        "\r\n",
        "  ",
        "İ",
        "ı",
        "ğ",
        "👩‍👩‍👧",
        "🇹🇷",
        "'ll",
        "123",
        "e\u0301",
    ]
)


def test_the_digest_of_the_samples_is_what_tiktoken_answers():
    assert tokens.ids_digest(REFERENCE.encode_ordinary) == tokens.SAMPLES_SHA256


def test_the_vocabulary_is_openais():
    known = {
        "hello world": [15339, 1917],
        "tiktoken is great!": [83, 1609, 5963, 374, 2294, 0],
        "お誕生日おめでとう": [33334, 45918, 243, 21990, 9080, 33334, 62004, 16556, 78699],
    }

    assert {text: REFERENCE.encode_ordinary(text) for text in known} == known


def test_another_vocabulary_is_refused(monkeypatch):
    words = tokens.vocabulary()
    words[b"hello"], words[b"world"] = words[b"world"], words[b"hello"]
    monkeypatch.setattr(tokens, "vocabulary", lambda: words)

    with pytest.raises(ConfigurationBroken, match=r"vocabulary is not OpenAI's"):
        tokens.tiktoken_encoding()


@given(st.lists(st.one_of(st.text(max_size=30), PIECES), max_size=20).map("".join))
def test_every_counter_gives_tiktokens_count(text):
    expected = len(REFERENCE.encode_ordinary(text))

    assert tokens.count(text) == expected
    assert SLOW([text]) == [expected]
    assert FAST is None or FAST([text]) == [expected]


def test_counts_come_in_the_order_of_the_texts():
    assert tokens.count_many(["", "hello world", "hello"]) == [0, 2, 1]


def test_special_tokens_in_a_text_are_plain_text():
    assert tokens.count("<|endoftext|>") == 7


@pytest.mark.parametrize("counter", [tokens.count_many, SLOW])
def test_a_lone_surrogate_is_refused_by_every_counter(counter):
    with pytest.raises(UnicodeEncodeError):
        counter(["ok \ud800"])


def test_the_fast_counter_is_used_where_it_agrees():
    assert tokens.counter()[0] == "splintr"


def test_a_tokenizer_that_differs_in_one_id_has_another_digest():
    def swapped(text):
        ids = REFERENCE.encode_ordinary(text)
        return [*ids[:-1], 5] if ids else ids

    assert tokens.ids_digest(swapped) != tokens.SAMPLES_SHA256


def test_importing_the_module_loads_no_tokenizer():
    code = (
        "import sys, shared.text.tokens; assert not {'tiktoken', 'splintr'} & set(sys.modules);"
        "shared.text.tokens.count('a'); assert 'tiktoken' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=patience(60))
