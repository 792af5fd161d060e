"""Shapes of secrets: what moderation blocks a text for, no log holds."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.observability.redaction import redact
from shared.observability.redaction_rules import MASK
from shared.text.secrets import ISSUERS, NAMES, PASSWORDS, SAID_NAMES
from workers.domain.judgement.moderation.secrets import ISSUED, SAID, secrets_in

KNOWN = [issuer for issuer in ISSUERS if issuer.issued]


@pytest.mark.parametrize("issuer", KNOWN, ids=lambda issuer: issuer.gates[0])
@settings(max_examples=20)
@given(data=st.data())
def test_a_secret_that_is_blocked_is_left_out_of_logs(issuer, data):
    shape = re.compile(issuer.issued.replace(r"\d", "[0-9]").removesuffix(r"\b"))
    secret = data.draw(st.from_regex(shape, fullmatch=True))
    text = f"it was {secret} then"

    assert any(gate in secret.lower() for gate in issuer.gates)
    assert redact(text) == f"it was {MASK} then"


def test_every_issuers_form_is_one_that_logs_suspect():
    assert len(KNOWN) >= 11
    assert all(gate == gate.lower() for issuer in ISSUERS for gate in issuer.gates)


@pytest.mark.parametrize("name", PASSWORDS.split("|"))
def test_a_password_is_known_by_its_name_in_both(name):
    said = f"{name}: kedi2024evde"

    assert re.search(NAMES, name)
    assert re.fullmatch(SAID_NAMES, name)
    assert redact(said) == f"{name}: {MASK}"
    assert [score for score, _, _ in secrets_in(said)] == [SAID]


def test_an_issued_key_is_surer_than_a_said_password():
    key = "hf_" + "aB3dE6gH9k" * 3

    assert [score for score, _, _ in secrets_in(f"use {key}")] == [ISSUED]
