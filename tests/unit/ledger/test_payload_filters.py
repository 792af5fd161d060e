"""Conditions on payloads that no payload can meet."""

import pytest

from producers.ledger import payload_filters
from producers.ledger.payload_filters import ConditionRefused


@pytest.mark.parametrize("text", ['a="\\u0000"', 'a="\\ud800"', 'a="x\\udfffy"', "a=\0"])
def test_what_postgres_cannot_store_is_refused_however_it_is_written(text):
    with pytest.raises(ConditionRefused, match="no payload holds"):
        payload_filters.condition([text])


def test_a_pair_of_surrogates_is_one_character():
    assert payload_filters.condition(['a="\\ud83d\\ude00"']) is not None
