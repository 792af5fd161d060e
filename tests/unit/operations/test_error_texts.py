"""Any error becomes text: whatever was raised, the report is there, short and without secrets."""

import gc
import time

import pytest

from shared.observability import error_texts
from tests.support.hostile_errors import HOSTILE
from tests.support.patience import patience


def _raised(raise_it) -> BaseException:
    try:
        raise_it()
    except BaseException as error:
        return error
    raise AssertionError("it raises")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_names_what_happened_whatever_was_raised(name):
    make, wanted = HOSTILE[name]
    error = make()
    gc.collect()
    began = time.monotonic()

    report = error_texts.report(error)

    assert time.monotonic() - began < patience(2)
    assert len(report) <= 20_200
    for part in wanted:
        assert part in report


def test_what_came_first_stands_first():
    def fail() -> None:
        try:
            {}["CHF"]
        except KeyError as error:
            raise ValueError("no rate") from error

    report = error_texts.report(_raised(fail))

    assert "KeyError: 'CHF'\n\nwhich led to\n\n" in report
    assert report.endswith("ValueError: no rate\n")
    assert report.count(", in fail\n") == 2


def test_an_error_raised_while_another_was_handled_brings_that_one_along():
    def fail() -> None:
        try:
            {}["CHF"]
        except KeyError:
            raise ValueError("no rate")  # noqa: B904 - as people write it

    report = error_texts.report(_raised(fail))

    assert "KeyError: 'CHF'\n\nwhile handling it, this was raised\n\n" in report


def test_from_none_hides_what_was_handled():
    def fail() -> None:
        try:
            {}["CHF"]
        except KeyError:
            raise ValueError("no rate") from None

    assert "KeyError" not in error_texts.report(_raised(fail))


def test_a_group_tells_its_members_in_one_sentence():
    error = ExceptionGroup("several", [ValueError("a"), KeyError("b")])

    sentence = error_texts.message(error)

    assert sentence == "several (2 sub-exceptions): ValueError: a; KeyError: 'b'"


@pytest.mark.parametrize("name", ["note", "notes", "noted members", "odd notes", "failing notes"])
def test_what_was_noted_is_told_with_the_message(name):
    make, wanted = HOSTILE[name]

    told = error_texts.message_with_notes(make())

    for part in wanted:
        assert part.partition(": ")[2] in told


def test_notes_are_redacted_and_bounded_as_messages_are():
    member = ValueError("m")
    member.add_note("password=hunter2secret " + "x" * 1_000_000)
    group = ExceptionGroup("g", [member] * 50)
    group.add_note("Bearer sk-ant-REDACTED")

    for told in (error_texts.message_with_notes(group), error_texts.report(group)):
        assert "hunter2secret" not in told
        assert "abcdefghijklmnop" not in told
        assert len(told) < 120_000


def test_no_secret_survives_in_a_message_that_is_cut():
    secret = "sk-" + "a1B2" * 10
    edge = error_texts.MESSAGE_CHARS_MAX // 2 - 10

    report = error_texts.report(ValueError("x " * (edge // 2) + secret + " y" * 2_000))

    assert "a1B2a1B2" not in report
