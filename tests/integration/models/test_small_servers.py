"""Embedding servers that take less than OpenAI: fewer texts, no base64, not every text."""

import numpy as np
import pytest

from shared.models.providers.batching import TextRefused
from tests.support.stub_openai import REFUSED_TEXT, vector


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_server_that_takes_32_texts_gets_them_in_parts(stub, status, embedder_of):
    stub.rule = lambda request: status if len(request["input"]) > 32 else None
    texts = [f"text {number}" for number in range(99)]

    rows = embedder_of(stub).embed(texts)

    assert np.array_equal(rows, np.stack([vector(text) for text in texts]))


def test_the_number_of_texts_a_request_carries_is_a_setting(stub, embedder_of):
    stub.rule = lambda request: 413 if len(request["input"]) > 32 else None

    embedder_of(stub, inputs_max="32").embed([str(n) for n in range(99)])

    assert (stub.seen.requests, stub.seen.inputs_max) == (4, 32)


def test_a_server_without_base64_is_asked_for_numbers_and_that_is_remembered(stub, embedder_of):
    def rule(request):
        return 400 if request["encoding_format"] == "base64" or len(request["input"]) > 8 else None

    stub.rule = rule
    embedder = embedder_of(stub)
    texts = [f"text {number}" for number in range(20)]

    rows = embedder.embed(texts)
    embedder.embed(["a", "b"])

    assert np.allclose(rows, np.stack([vector(text) for text in texts]))
    assert [body["encoding_format"] for body in list(stub.seen.bodies)[-3:]] == ["float"] * 3


def test_a_server_that_once_sent_base64_is_never_asked_for_numbers(stub, embedder_of):
    embedder = embedder_of(stub)
    embedder.embed(["a"])

    with pytest.raises(TextRefused):
        embedder.embed([f"a {REFUSED_TEXT}", "b"])

    assert {body["encoding_format"] for body in stub.seen.bodies} == {"base64"}


def test_one_rejected_text_costs_no_other_its_vector(stub, embedder_of):
    texts = [f"text {number}" for number in range(32)]
    texts[13] += REFUSED_TEXT

    with pytest.raises(TextRefused, match=r"1 of 32 texts .*, number 14\..*400") as refused:
        embedder_of(stub).embed(texts)

    others = [number for number in range(32) if number != 13]
    assert np.array_equal(
        refused.value.rows[others], np.stack([vector(texts[number]) for number in others])
    )
