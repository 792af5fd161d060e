"""What JSON may hold here: read, checked, and read back from the database."""

import json
import math

import pytest

from shared.errors import PayloadRefused
from shared.json_values import (
    DEPTH_MAX,
    NUMBER_MAX,
    VALUES_MAX,
    UnreadableJson,
    fault_of,
    read_json,
    stored_json,
)


def nested(levels):
    """Lists within one another."""
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting"),
        ("NaN", "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ("1e5000", "beyond 1e308"),
        ("[-1e309]", "beyond 1e308"),
        ("-" + "9" * 400, "beyond 1e308"),
        ("9" * 5_000, "beyond 1e308"),
        ("1e-5000", "too close to 0"),
        (nested(DEPTH_MAX + 1), "deeper than 100"),
        (nested(100_000), "deeper than 100"),
        ('"\\ud83d"', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ('{"a": ["b\\u0000"]}', "NUL"),
    ],
)
def test_what_cannot_be_stored_or_read_again_is_refused_and_the_message_says_why(text, why):
    with pytest.raises(PayloadRefused, match=why):
        read_json(text)


@pytest.mark.parametrize(
    "text",
    [
        nested(DEPTH_MAX),
        "1e308",
        "-1e308",
        "5e-324",
        "0.000e-9999",
        str(NUMBER_MAX),
        '"\\ud83d\\ude00 \\\\u0000"',
        '{"a": [1, 2.5, true, null, "x"]}',
    ],
)
def test_what_is_within_the_limits_is_read_as_it_is(text):
    assert read_json(text) == json.loads(text) == stored_json(text.encode())


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": (1, {math.inf})}, {"\ud800": 1}])
def test_what_python_makes_and_json_does_not_know_is_refused(value):
    assert fault_of(value)


def test_a_list_that_holds_itself_twice_ends_before_memory_does():
    value: list[object] = []
    value += [value, value]

    assert fault_of(value) == f"it holds more than {VALUES_MAX:,} values"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"n": ' + b"9" * 5_000 + b"}", "1e308"),
        (b'{"n": 1' + b"0" * 400 + b".5}", "1e308"),
        (nested(101).encode(), "deeper"),
        (nested(50_000).encode(), "deeper"),
    ],
)
def test_a_stored_value_that_cannot_be_read_is_its_text_and_says_why(text, why):
    found = stored_json(text)

    assert isinstance(found, UnreadableJson)
    assert found == text.decode()
    assert why in found.why


@pytest.mark.parametrize(
    "text",
    [
        "[" + "1," * VALUES_MAX + "1]",
        "[" + "[]," * VALUES_MAX + "[]]",
        "[" * (VALUES_MAX + 1),
        "[" + '"",' * VALUES_MAX + '""]',
        "{" + '"a":1,' * (VALUES_MAX // 2) + '"b":1,"c":1}',
    ],
)
def test_too_many_values_are_refused_before_they_are_made(text):
    with pytest.raises(PayloadRefused, match="more than 1,000,000 values"):
        read_json(text)


def test_a_text_may_hold_what_separates_values():
    text = ',:[{\\"' * (VALUES_MAX + 1)

    assert read_json(f'["{text}"]') == [text.replace('\\"', '"')]
