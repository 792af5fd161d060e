"""Turkish suffixes: which forms count as those of a word, for readers of different strictness."""

import pytest

from shared.text import suffixes
from shared.text.letters import plain

# Of the stems ev, araba and kitap.
NOUN_FORMS = "ler im imiz mız de den e yi nın larından lerimizde ki dekiler dir"
VERB_FORMS = "di iyor ecek acağım meli tık iyorlar ebilir mek en diği"
CALLED = [
    ("a", "sın"),
    ("a", "lar"),
    ("a", "lığınız"),
    ("e", "siniz"),
    ("e", "likte"),
    ("a", "mış"),
]


@pytest.mark.parametrize("spelled", [str, plain])
def test_forms_are_known_as_they_are_written_and_as_they_are_typed(spelled):
    nouns = [form for form in NOUN_FORMS.split() if not suffixes.NOUN.fullmatch(spelled(form))]
    verbs = [form for form in VERB_FORMS.split() if not suffixes.VERB.fullmatch(spelled(form))]
    called = [
        (vowel, form)
        for vowel, form in CALLED
        if not suffixes.CALLED[vowel].fullmatch(spelled(form))
    ]

    assert (nouns, verbs, called) == ([], [], [])


@pytest.mark.parametrize("rest", ["lık", "cı", "sız", "tırmak", "x", "lamak"])
def test_what_makes_another_word_is_no_form_of_it(rest):
    assert not suffixes.NOUN.fullmatch(rest)
    assert not suffixes.VERB.fullmatch(rest)


def test_what_somebody_is_called_agrees_with_its_vowel():
    assert suffixes.CALLED["a"].fullmatch("lar")
    assert not suffixes.CALLED["e"].fullmatch("lar")


@pytest.mark.parametrize("form", NOUN_FORMS.split())
def test_a_chain_takes_every_form_of_a_noun(form):
    assert suffixes.NOUN_CHAIN.fullmatch(form)
    assert suffixes.NOUN_CHAIN.fullmatch(f"lık{form}")


@pytest.mark.parametrize("rest", ["miyor", "medi", "emez", "mamış", "meyecek", "meden"])
def test_a_denied_verb_is_told(rest):
    assert suffixes.NEGATED.match(plain(rest))
    assert not suffixes.NEGATED.match("di")


@pytest.mark.parametrize(
    ("word", "shown"),
    [("arabalarımızdan", "araba"), ("faturanın", "fatura"), ("kitap", "kitap"), ("evde", "evde")],
)
def test_a_shown_word_loses_its_endings_and_stays_long_enough(word, shown):
    assert suffixes.without_suffixes(word) == shown
