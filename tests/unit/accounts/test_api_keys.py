"""API keys: their text, what is stored of them, and what scopes a role allows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.accounts import key_format, scopes
from producers.accounts.key_format import Peppers
from producers.accounts.scopes import Scope, ScopesRefused
from shared.text.secrets import ISSUERS

OLD, NEW = b"o" * 32, b"n" * 32


def test_a_key_has_the_form_that_is_redacted_everywhere():
    made = key_format.new()

    assert re.fullmatch(r"aly_[A-Za-z0-9]{8}_[A-Za-z0-9]{49}", made.secret)
    assert made.secret.startswith(made.prefix)
    assert any(re.fullmatch(one.suspected, made.secret) for one in ISSUERS)
    assert made.secret not in repr(made)


@given(st.integers(0, 61), st.characters(categories=["L", "N", "P"]))
def test_a_letter_that_is_another_one_breaks_the_checksum(position, letter):
    key = key_format.new().secret
    other = key[:position] + letter + key[position + 1 :]

    assert key_format.is_ours(key)
    assert key_format.is_ours(other) == (other == key)


def test_every_pepper_is_tried_and_the_first_makes_new_hashes():
    key = key_format.new().secret
    before, rotated = Peppers((OLD,)).hash(key), Peppers((NEW, OLD))

    assert before in rotated.hashes(key)
    assert rotated.hash(key) == rotated.hashes(key)[0] != before
    assert key not in before
    assert before not in Peppers((NEW,)).hashes(key)


def test_roles_allow_what_they_may_and_no_more():
    user, admin, above = map(scopes.of_role, ("USER", "ADMIN", "SUPER_ADMIN"))

    assert user < admin < above == set(Scope)
    assert all(one.endswith(":read") for one in user)
    assert not user & {Scope.AUDIT_READ, Scope.KEYS_READ, Scope.TENANTS_READ}
    assert not admin & {Scope.QUEUES_WRITE, Scope.TENANTS_READ, Scope.MODELS_WRITE}
    assert scopes.of_role("ROOT") == frozenset()


def test_a_stored_scope_counts_as_far_as_the_role_allows_it_now():
    stored = ["jobs:write", "jobs:read", "write:everything"]

    assert scopes.effective(stored, "ADMIN") == {Scope.JOBS_WRITE, Scope.JOBS_READ}
    assert scopes.effective(stored, "USER") == {Scope.JOBS_READ}


@pytest.mark.parametrize(
    ("asked", "role", "words"),
    [
        ([], "ADMIN", "at least one scope"),
        (["jobs:writ"], "ADMIN", "Unknown scope 'jobs:writ'"),
        (["jobs:write"], "USER", "The role USER of the key's owner does not allow jobs:write"),
        (["queues:write"], "ADMIN", "does not allow queues:write"),
    ],
)
def test_a_key_is_not_made_with_scopes_that_it_cannot_have(asked, role, words):
    with pytest.raises(ScopesRefused, match=re.escape(words)):
        scopes.wanted(asked, role)
