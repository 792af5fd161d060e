"""The formulas of the sealed audit log."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.operations import audit_verifier
from producers.operations.audit_verifier import FIELDS, NOTHING, Head
from tests.oracles import rfc6962

LEAVES = st.lists(st.binary(min_size=32, max_size=32), max_size=40)


@given(LEAVES)
def test_a_root_is_the_tree_hash_of_rfc_6962(leaves):
    assert audit_verifier.root(leaves) == rfc6962.tree_hash(leaves)


@given(LEAVES.filter(bool), st.data())
def test_each_path_leads_to_the_root_and_another_leaf_does_not(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    hashes = audit_verifier.path(audit_verifier.tree(leaves), index)

    assert hashes == rfc6962.audit_path(leaves, index)
    found = audit_verifier.root_by_path(leaves[index], index, len(leaves), hashes)
    assert found == audit_verifier.root(leaves)
    forged = audit_verifier.root_by_path(b"x" * 32, index, len(leaves), hashes)
    assert (forged == found) == (leaves[index] == b"x" * 32)


@pytest.mark.parametrize("hashes", [[], [NOTHING] * 3])
def test_a_path_of_another_length_is_refused(hashes):
    with pytest.raises(ValueError, match="the path is too"):
        audit_verifier.root_by_path(NOTHING, 0, 4, hashes)


def test_the_hash_of_an_entry_is_the_one_that_the_page_names():
    fields = ["i1", "cli:ada", "dead.replay", "Job", "j1", None, None, '{"a": 1.50}', "2026-12-01"]
    text = (
        '["t1",1,"i1","cli:ada","dead.replay","Job","j1",null,null,"{\\"a\\": 1.50}","2026-12-01"]'
    )

    found = audit_verifier.entry_hash(NOTHING, "t1", 1, fields)

    assert found == hashlib.sha256(b"\x02" + NOTHING + text.encode()).digest()
    assert len(fields) == len(FIELDS)


@given(st.integers(0, 10), st.text(max_size=3))
def test_every_part_of_an_entry_is_in_its_hash(part, other):
    whole = ["t1", 1, *(f"f{each}" for each in range(len(FIELDS)))]
    changed = list(whole)
    changed[part] = 2 if part == 1 else other + "!"

    def hash_of(chain, seq, *fields):
        return audit_verifier.entry_hash(NOTHING, chain, seq, fields)

    assert hash_of(*whole) != hash_of(*changed)


def test_heads_of_two_chains_are_not_confused():
    one, other = Head("a", 11, NOTHING), Head("a1", 1, NOTHING)

    assert audit_verifier.leaf(one) != audit_verifier.leaf(other)
    assert audit_verifier.heads_hash([one, other]) != audit_verifier.heads_hash([other, one])
