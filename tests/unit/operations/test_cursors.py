"""Cursors of lists: short, and of one list alone."""

from datetime import UTC, datetime

import pytest

from producers.web import lists
from producers.web.problems import Refused

ROW = (datetime(2026, 12, 1, tzinfo=UTC), "01a22cb1-5b28-74bb-843b-5b9d39e959c9")


def test_a_cursor_is_read_by_its_list_alone():
    lists.asked.set("/v1/jobs")
    cursor = lists.write(*ROW)
    assert lists.read(cursor) == ROW

    lists.asked.set("/v1/audit")
    with pytest.raises(Refused, match="of another list"):
        lists.read(cursor)


def test_a_long_address_makes_no_long_cursor():
    lists.asked.set("/v1/workflows/" + "\u015f" * 200 + "/versions")

    assert len(lists.write(*ROW)) < 200
