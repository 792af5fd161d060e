"""Canonical hashes and keyed seals."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.judgement.provenance import (
    SealedContent,
    canonical,
    input_sha256,
    is_sealed_by,
    key_id,
    output_sha256,
    watermark,
)

KEY, OTHER = b"a key of thirty-two random bytes", b"another key of as many random by"
SEALED = SealedContent("m1", "gpt", "a" * 64, "b" * 64, [{"chunkId": "c", "start": 0, "end": 3}])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), values, min_size=2))
def test_the_order_of_keys_changes_nothing(value):
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(st.text())
def test_however_a_letter_is_composed_its_hash_is_the_same(text):
    composed = unicodedata.normalize("NFC", text)
    decomposed = unicodedata.normalize("NFD", text)

    assert output_sha256(composed) == output_sha256(decomposed)


def test_a_number_is_written_as_postgres_gives_it_back():
    assert canonical([1.0, 1e16, 1e23, -0.0, 0.5]) == canonical([1, 10**16, 10**23, 0, 0.5])


def test_the_canonical_form_is_the_standards():
    value = {"b": ["é", 1.0, None], "a": {"z": True, "y": "\u20ac\n"}}

    assert canonical(value) == '{"a":{"y":"€\\n","z":true},"b":["é",1,null]}'.encode()


def test_what_was_asked_how_and_of_whom_are_all_hashed():
    asked = input_sha256("Why?", "gpt", {"temperature": 0.2})

    assert asked != input_sha256("Why", "gpt", {"temperature": 0.2})
    assert asked != input_sha256("Why?", "gpt-2", {"temperature": 0.2})
    assert asked != input_sha256("Why?", "gpt", {"temperature": 0.3})


@pytest.mark.parametrize(
    "changed",
    [
        {"message_id": "m2"},
        {"model": "gpt-2"},
        {"input_sha256": "c" * 64},
        {"output_sha256": "c" * 64},
        {"citations": [{"chunkId": "c", "start": 0, "end": 4}]},
        {"citations": []},
    ],
)
def test_a_watermark_fits_nothing_but_what_it_seals(changed):
    fields = {name: getattr(SEALED, name) for name in SEALED.__slots__}
    mark = watermark(KEY, SEALED)

    assert is_sealed_by(KEY, SEALED, mark)
    assert not is_sealed_by(KEY, SealedContent(**(fields | changed)), mark)
    assert not is_sealed_by(OTHER, SEALED, mark)


def test_a_watermark_names_its_key_and_tells_nothing_of_it():
    version, named, seal = watermark(KEY, SEALED).split(":")

    assert (version, named, len(seal)) == ("v1", key_id(KEY), 64)
    assert KEY.hex() not in seal
