"""Identifiers: logs and moderation find the same numbers, by the same check digits."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn
from stdnum.tr import tckimlik

from shared.observability.redaction import redact
from shared.observability.redaction_rules import MASK
from shared.text import identifiers
from workers.domain.judgement.moderation.personal import CHECKED, personal_data

COUNTRIES = sorted(identifiers.iban_lengths())
# What logs knew before the registry was used.
KNOWN_BEFORE = (
    "AD AE AL AT AZ BA BE BG BH BR BY CH CR CY CZ DE DK DO EE EG ES FI FO FR GB GE GI GL GR GT HR "
    "HU IE IL IQ IS IT JO KW KZ LB LC LI LT LU LV LY MC MD ME MK MR MT MU NL NO PK PL PS PT QA RO "
    "RS SA SC SE SI SK SM ST SV TL TN TR UA VA VG XK"
)
DIGITS = st.text(alphabet="0123456789", min_size=40, max_size=40)


def found(text):
    return {text[start:end] for score, start, end in personal_data(text) if score == CHECKED}


def iban_of(country, digits):
    rest = digits[: identifiers.iban_lengths()[country] - 4]
    return f"{country}{iban.calc_check_digits(f'{country}00{rest}')}{rest}"


def grouped(number):
    return " ".join(number[at : at + 4] for at in range(0, len(number), 4))


def test_the_registry_holds_every_country_that_was_known_before():
    assert set(KNOWN_BEFORE.split()) < set(COUNTRIES)
    assert all(15 <= chars <= 34 for chars in identifiers.iban_lengths().values())


@pytest.mark.parametrize("country", COUNTRIES)
@settings(max_examples=5)
@given(digits=DIGITS)
def test_an_iban_of_any_country_is_redacted_and_found_by_moderation(country, digits):
    number = iban_of(country, digits)

    for written in (number, grouped(number)):
        text = f"pay to {written} today"

        assert redact(text) == f"pay to {MASK} today"
        assert written in found(text)


@given(st.sampled_from(COUNTRIES), DIGITS, st.integers(0, 96))
def test_an_iban_holds_for_both_or_for_neither(country, digits, check):
    rest = digits[: identifiers.iban_lengths()[country] - 4]
    text = f"{country}{check:02}{rest}"

    is_found = any(one.startswith(country) for one in found(text))

    assert is_found == redact(text).startswith(MASK)


def test_the_examples_of_the_registry_are_found_by_both():
    for number in ("UA213223130000026007233566001", "SA0380000000608010167519"):
        assert (redact(number), found(number)) == (MASK, {number})


@pytest.mark.parametrize("before", ["REF AB12 ", "No DE12 ", "XX00 DE99 "])
def test_what_only_looks_like_an_iban_hides_none_behind_it(before):
    number = grouped("TR330006100519786457841326")

    assert redact(f"{before}{number}") == f"{before}{MASK}"
    assert found(f"{before}{number}") == {number}


@pytest.mark.parametrize(
    "card",
    [
        "4111111111111111",
        "5555555555554444",
        "378282246310005",
        "3782 822463 10005",
        "30569309025904",
        "3056 930902 5904",
        "36227206271667",
        "3530111333300000",
        "6011111111111117",
        "9792030394440796",
        "4111 1111 1111 1111",
    ],
)
def test_a_card_of_a_known_issuer_is_found(card):
    assert found(f"card {card}, please") == {card}


@pytest.mark.parametrize("after", [" 12/27", " 3 items", "-1"])
def test_a_number_after_a_card_hides_it_from_neither(after):
    text = f"card 4539 5787 6362 1486{after}"

    assert redact(text) == f"card {MASK}{after}"
    assert found(text) == {"4539 5787 6362 1486"}


@given(st.integers(10**8, 10**9 - 1))
def test_a_turkish_identity_number_is_found_by_both_and_its_neighbour_by_neither(first):
    number = f"{first}{tckimlik.calc_check_digits(str(first))}"
    other = f"{first}{(int(number[-2:]) + 1) % 100:02}"

    assert (redact(f"no {number}"), found(f"no {number}")) == (f"no {MASK}", {number})
    assert (redact(f"no {other}"), found(f"no {other}")) == (f"no {other}", set())


@given(st.text(alphabet="0123456789", min_size=13, max_size=19).filter(lambda it: it[0] in "23456"))
def test_what_moderation_takes_for_a_card_is_redacted(digits):
    assert redact(digits) == (MASK if luhn.is_valid(digits) else digits)
    assert found(digits) == set() or redact(digits) == MASK


def test_digits_of_other_scripts_hide_nothing():
    card = "4111111111111111".translate({ord("0") + at: 0x0660 + at for at in range(10)})

    assert redact(f"card {card}") == f"card {MASK}"
    assert found(f"card {card}") == {card}


@pytest.mark.parametrize("piece", ["TR33 ", "AB12", "DE89 3704 ", "1 ", "4111-", "+1 (", "a@a."])
def test_hostile_text_costs_as_its_length(piece):
    text = (piece * 200_000)[:200_000]

    begun = time.process_time()
    list(personal_data(text))
    redact(text)

    assert time.process_time() - begun < 4  # half a second on a slow core
