"""Embeddings over HTTP, from a server that is scripted to be right, wrong, slow or hostile."""

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shared.errors import (
    PermanentError,
    ProviderContractBroken,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    TransientError,
)
from shared.models.providers.batching import TextRefused
from tests.integration.models.conftest import KEY, MODEL
from tests.support.patience import patience
from tests.support.stub_openai import REFUSED_TEXT, Fault, StubOpenAI, vector

TEXT = "canary of the text"


def edited(change):
    """A fault that changes the right answer in place."""

    def edit(answer):
        change(answer)
        return answer

    return Fault(edit=edit)


def packed(floats):
    return base64.b64encode(np.asarray(floats, dtype="<f4").tobytes()).decode()


# ---- what goes right


def test_vectors_come_back_in_the_order_of_the_texts(stub, embedder_of):
    texts = [f"text {number} ğüşıöç" for number in range(70)]

    rows = embedder_of(stub).embed(texts)

    assert rows.shape == (70, 1536)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, np.stack([vector(text) for text in texts]))


def test_a_query_is_one_vector(stub, embedder_of):
    assert np.array_equal(embedder_of(stub).embed_query("a question"), vector("a question"))


def test_no_texts_cost_no_request(stub, embedder_of):
    assert embedder_of(stub).embed([]).shape == (0, 1536)
    assert stub.seen.requests == 0


@pytest.mark.parametrize(
    ("model", "dimensions"),
    [(MODEL, 1536), ("text-embedding-3-large", 1536), ("text-embedding-ada-002", None)],
)
def test_base64_is_asked_for_and_dimensions_only_of_models_that_know_them(
    stub, model, dimensions, embedder_of
):
    embedder_of(stub, model=model).embed(["a"])

    (body,) = stub.seen.bodies
    assert body["encoding_format"] == "base64"
    assert body.get("dimensions") == dimensions
    assert stub.seen.authorization == f"Bearer {KEY}"


def test_answers_out_of_order_are_sorted_by_their_index(stub, embedder_of):
    stub.faults.append(edited(lambda answer: answer["data"].reverse()))

    rows = embedder_of(stub).embed(["a", "b", "c"])

    assert np.array_equal(rows, np.stack([vector(text) for text in "abc"]))


def test_lists_of_numbers_are_taken_from_a_server_without_base64(stub, embedder_of):
    stub.faults.append(
        edited(lambda answer: answer["data"][0].update(embedding=vector("a").tolist()))
    )

    assert np.array_equal(embedder_of(stub).embed(["a"])[0], vector("a"))


def test_a_narrow_model_of_another_server_is_padded_and_must_stay_as_narrow(stub, embedder_of):
    embedder = embedder_of(stub, model="all-minilm")
    for width in (384, 512):
        stub.faults.append(
            edited(lambda answer, w=width: answer["data"][0].update(embedding=packed(np.ones(w))))
        )

    first = embedder.embed(["a"])

    assert first.shape == (1, 1536)
    assert first.sum() == embedder.dimensions == 384
    with pytest.raises(ProviderContractBroken, match="512 dimensions"):
        embedder.embed(["a"])


def test_nuls_and_lone_surrogates_are_not_sent(stub, embedder_of):
    embedder_of(stub).embed(["a\0b", "c\ud800d"])

    assert stub.seen.bodies[0]["input"] == ["ab", "cd"]


# ---- sizes


def test_a_large_call_is_cut_at_2048_inputs(stub, embedder_of):
    texts = [str(number) for number in range(2_100)]

    rows = embedder_of(stub).embed(texts)

    assert stub.seen.requests == 2
    assert stub.seen.inputs_max == 2_048
    assert np.array_equal(rows[2_099], vector("2099"))


def test_a_large_call_is_cut_at_300_000_estimated_tokens(stub, embedder_of):
    texts = [str(number).zfill(32_000) for number in range(40)]  # 8,000 tokens each

    rows = embedder_of(stub).embed(texts)

    assert stub.seen.requests == 2
    assert stub.seen.tokens_max == 37 * 8_000
    assert np.array_equal(rows, np.stack([vector(text) for text in texts]))


def test_a_text_of_8192_tokens_is_refused_before_it_is_sent(stub, embedder_of):
    embedder = embedder_of(stub)

    with pytest.raises(TextRefused, match=r"number 2\. It has 8192 tokens") as refused:
        embedder.embed([TEXT, TEXT], [8_191, 8_192])

    assert stub.seen.inputs == 1
    assert np.array_equal(refused.value.rows[0], vector(TEXT))
    assert len(embedder.embed([TEXT], [8_191])) == 1


@pytest.mark.parametrize("text", ["", "  \n", "\0"])
def test_an_empty_text_is_refused_before_it_is_sent(stub, text, embedder_of):
    with pytest.raises(TextRefused, match=r"number 2\. It is empty\."):
        embedder_of(stub).embed(["a", text])

    assert stub.seen.inputs == 1


# ---- answers that break the contract

BROKEN = {
    "too few": lambda answer: answer["data"].pop(),
    "too many": lambda answer: answer["data"].append(dict(answer["data"][0], index=2)),
    "repeated index": lambda answer: answer["data"][1].update(index=0),
    "negative index": lambda answer: answer["data"][1].update(index=-1),
    "string index": lambda answer: answer["data"][1].update(index="1"),
    "true as an index": lambda answer: answer["data"][1].update(index=True),
    "index beyond": lambda answer: answer["data"][1].update(index=2),
    "no index": lambda answer: answer["data"][1].pop("index"),
    "narrow": lambda answer: answer["data"][1].update(embedding=packed(np.ones(1535))),
    "wide": lambda answer: answer["data"][1].update(embedding=packed(np.ones(3072))),
    "empty vector": lambda answer: answer["data"][1].update(embedding=""),
    "torn float": lambda answer: answer["data"][1].update(embedding="AAAAAAA="),
    "no base64": lambda answer: answer["data"][1].update(embedding="A"),
    "NaN": lambda answer: answer["data"][1].update(embedding=packed([np.nan] + [1] * 1535)),
    "infinity": lambda answer: answer["data"][1].update(embedding=packed([-np.inf] + [1] * 1535)),
    "overflow": lambda answer: answer["data"][1].update(embedding=[1e300] + [1.0] * 1535),
    "endless digits": lambda answer: answer["data"][1].update(embedding=[10**400] * 1536),
    "zeros": lambda answer: answer["data"][1].update(embedding=packed(np.zeros(1536))),
    "nulls": lambda answer: answer["data"][1].update(embedding=[None] * 1536),
    "strings": lambda answer: answer["data"][1].update(embedding=["1"] * 1536),
    "null vector": lambda answer: answer["data"][1].update(embedding=None),
    "null row": lambda answer: answer["data"].__setitem__(1, None),
    "no rows": lambda answer: answer.pop("data"),
    "null rows": lambda answer: answer.update(data=None),
    "rows as an object": lambda answer: answer.update(data={"0": 1, "1": 2}),
    "other model": lambda answer: answer.update(model="text-embedding-3-large"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_gives_nothing_and_may_be_asked_again(stub, change, embedder_of):
    embedder = embedder_of(stub)
    stub.faults.append(edited(change))

    with pytest.raises(ProviderContractBroken):
        embedder.embed(["a", "b"])

    assert len(embedder.embed(["a", "b"])) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b'{"data": [{"index": 0, "embedding": "AAA',
        b"[" * 200_000,
        b"null",
        b"[]",
        b'{"error": {"message": "overloaded"}}',
        b"\xff\xfe\x00",
    ],
    ids=["empty", "html", "torn", "deep", "null", "list", "error inside 200", "no text"],
)
def test_a_body_that_is_no_list_of_embeddings_may_be_asked_again(stub, body, embedder_of):
    stub.faults.append(Fault(body=body))

    with pytest.raises(ProviderContractBroken):
        embedder_of(stub).embed(["a"])


# ---- refusals and faults


@pytest.mark.parametrize("status", [400, 405, 413, 422, 302])
def test_a_refusal_is_permanent(stub, status, embedder_of):
    fault = Fault(status=status, headers={"Location": f"{stub.url}/elsewhere"})
    stub.faults.extend([fault, fault])

    with pytest.raises(ProviderRefused, match=str(status)):
        embedder_of(stub).embed(["a"])

    # What may be no fault of the text is asked for as numbers, once.
    assert stub.seen.requests == (2 if status in (400, 413, 422) else 1)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_a_fault_of_the_server_is_transient_and_not_retried_here(stub, status, embedder_of):
    stub.faults.append(Fault(status=status))

    with pytest.raises(TransientError, match=str(status)) as failed:
        embedder_of(stub).embed(["a"])

    assert isinstance(failed.value, ProviderRateLimited) == (status == 429)
    assert stub.seen.requests == 1


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("1e9", 900.0),
        ("inf", 900.0),
        ("nan", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 900.0),
    ],
)
def test_the_wait_a_provider_asks_for_is_kept_within_reason(stub, asked, kept, embedder_of):
    stub.faults.append(Fault(status=503, headers={"Retry-After": asked}))

    with pytest.raises(ProviderUnavailable) as failed:
        embedder_of(stub).embed(["a"])

    assert failed.value.retry_after_s == kept


def test_a_retry_after_stops_the_next_request_before_it_is_sent(stub, embedder_of):
    embedder = embedder_of(stub)
    stub.faults.append(Fault(status=429, headers={"Retry-After": "60"}))

    with pytest.raises(ProviderRateLimited):
        embedder.embed(["a"])
    with pytest.raises(ProviderRateLimited) as failed:
        embedder.embed(["a"])

    assert 55 < failed.value.retry_after_s <= 60
    assert stub.seen.requests == 1


def test_the_provider_s_own_count_of_what_is_left_is_heeded(stub, embedder_of):
    stub.faults.append(
        Fault(
            headers={
                "x-ratelimit-limit-requests": "2",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-remaining-tokens": "NaN",
            }
        )
    )
    embedder = embedder_of(stub, requests_per_minute=4)
    embedder.embed(["a"])

    with pytest.raises(ProviderRateLimited):
        embedder.embed(["a"])

    assert stub.seen.requests == 1


@pytest.mark.parametrize("how", ["stall", "trickle", "reset", "cut", "endless", "gzip_bomb"])
def test_a_hanging_torn_or_endless_answer_ends_in_time_and_is_transient(stub, how, embedder_of):
    embedder = embedder_of(stub, timeout_s=1.0)
    stub.faults.append(Fault(how=how))
    started_at = time.monotonic()

    with pytest.raises((ProviderUnavailable, ProviderContractBroken)):
        embedder.embed(["a"])

    assert time.monotonic() - started_at < patience(10)
    assert len(embedder.embed(["a"])) == 1


def test_a_server_that_is_not_there_is_transient(embedder_of):
    with StubOpenAI() as gone:
        pass

    with pytest.raises(ProviderUnavailable, match="connection to the provider failed"):
        embedder_of(gone).embed(["a"])


@pytest.mark.parametrize("status", [400, 401, 429, 500, 200])
def test_neither_the_key_nor_a_text_shows_in_an_error_or_a_log(stub, status, caplog, embedder_of):
    echo = {"message": f"{KEY} {TEXT}", "code": f"{KEY} {TEXT}", "param": TEXT, "type": KEY}
    stub.faults.extend([Fault(status=status, body=json.dumps({"error": echo}).encode())] * 2)
    embedder = embedder_of(stub)

    with caplog.at_level("DEBUG"), pytest.raises((PermanentError, TransientError)) as failed:
        embedder.embed([TEXT])

    shown = f"{failed.value!r} {failed.value.__cause__!r} {caplog.text}"
    assert failed.value.__suppress_context__ or failed.value.__context__ is None
    assert KEY not in shown
    assert TEXT not in shown


def test_the_refused_text_of_one_thread_fails_no_other_thread(embedder_of):
    with StubOpenAI(delay_ms=30) as stub, ThreadPoolExecutor(6) as threads:
        embedder = embedder_of(stub)
        together = threading.Barrier(6)

        def work(number):
            embedder.embed(["warm"])
            together.wait(patience(10))
            return embedder.embed([REFUSED_TEXT if number == 3 else "good", f"{number}"])

        calls = [threads.submit(work, number) for number in range(6)]
        failures = [call.exception(patience(30)) for call in calls]

    assert isinstance(failures[3], ProviderRefused)
    assert [number for number in range(6) if failures[number] is None] == [0, 1, 2, 4, 5]
    assert np.array_equal(calls[5].result()[1], vector("5"))


def test_a_failed_request_fails_the_callers_in_it_and_no_later_one(stub, embedder_of):
    embedder = embedder_of(stub)
    stub.faults.append(Fault(status=500))

    with pytest.raises(ProviderUnavailable):
        embedder.embed([str(number) for number in range(2_100)])

    assert len(embedder.embed(["a"])) == 1
