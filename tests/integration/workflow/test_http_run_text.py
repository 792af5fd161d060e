"""/v1/runs/ID/text: the words of a model arrive while it writes; the output at the end counts."""

import json
import threading
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from producers.web.workflow import run_texts
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from shared.workflow.live_texts import LiveTexts, TextPiece
from tests.support import factories
from tests.support.factories import do_all, environment, make_tenant, make_user
from tests.support.http_api import make_key
from tests.support.patience import patience, until
from tests.support.stub_site import StubSite
from workers.steps import live_text

MODEL = "gpt-4.1-mini"
SAY = b"""
name: say
steps:
  answer: {uses: complete, with: {prompt: "How long?", model: gpt-4.1-mini, cache: false}}
outputs:
  answer: "${{ steps.answer.output.text }}"
"""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
SCOPES = ("workflows:write", "runs:read", "runs:write")


def chunk(text=None, **more):
    """An event of a provider's stream."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, **more}
    document = {"model": MODEL, "choices": [choice]}
    return f"data: {json.dumps(document)}\n\n".encode()


ENDING = chunk(finish_reason="stop") + b"data: [DONE]\n\n"


@pytest.fixture
def texts(redis_url):
    """Where the workers of this process tell texts, as `ailydian work` sets it."""
    with wakeups.connect(redis_url) as client:
        told = LiveTexts(client, Wire("ailydian", factories.KEY))
        live_text.configure(told)
        yield told
        live_text.configure(None)


@pytest.fixture
def site():
    """A provider that is paid for."""
    with (
        StubSite() as site,
        environment(
            OPENAI_BASE_URL=f"{site.url}/v1", OPENAI_API_KEY="sk-x", AILYDIAN_ALLOW_SPEND="true"
        ),
    ):
        yield site


@pytest.fixture
def key(acme):
    """A key of acme for runs."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), *SCOPES)


@pytest.fixture
def run_id(api, key, texts):
    """A run whose model has not been asked."""
    yaml = {"Content_Type": "application/yaml"}
    assert api.ask("POST", "/v1/workflows", key=key, body=SAY, **yaml).status == 201
    return api.ask("POST", "/v1/runs", key=key, body={"workflow": "say"}).document["id"]


@contextmanager
def following(api, key, run_id, **headers):
    """The events of a run's text, as they come: (id, name, document)."""
    connection = HTTPConnection("127.0.0.1", api.port, timeout=patience(30))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(
        "GET", f"/v1/runs/{run_id}/text", headers={"Authorization": f"Bearer {key}", **named}
    )
    answer = connection.getresponse()
    try:
        assert answer.status == 200
        assert answer.getheader("content-type").startswith("text/event-stream")
        assert answer.readline() == b": follows\n"
        yield _events(answer)
    finally:
        connection.close()


def _events(answer):
    found = {}
    while line := answer.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "data":
            yield found.get("id"), found["event"], json.loads(value)
            found = {}
        elif name:
            found[name] = value


@contextmanager
def working():
    """Do all jobs in another thread."""
    thread = threading.Thread(target=do_all)
    thread.start()
    yield
    thread.join(patience(30))
    assert not thread.is_alive()


def test_words_arrive_while_the_model_writes(api, key, run_id, site):
    read = threading.Event()

    def talk(sock):
        sock.sendall(HEAD + chunk("Thirty "))
        assert read.wait(patience(20))
        sock.sendall(chunk("days.") + ENDING)

    site.answers.append(talk)
    with following(api, key, run_id) as events, working():
        first = next(events)
        read.set()
        rest = list(events)

    assert first[1:] == ("text", {"step": "answer", "attempt": 1, "text": "Thirty "})
    assert [one[1:] for one in rest] == [
        ("text", {"step": "answer", "attempt": 1, "text": "days."}),
        ("end", {"state": "completed", "output": {"answer": "Thirty days."}, "error": None}),
    ]
    assert '"stream":true' in site.requests[0].replace(" ", "")
    with following(api, key, run_id, Last_Event_ID=first[0]) as events:
        assert [one[1] for one in events] == ["text", "end"]
    with following(api, key, run_id) as events:
        assert [one[1] for one in events] == ["text", "text", "end"]


def test_a_server_that_does_not_stream_is_told_of_at_once(api, key, run_id, site):
    message = {"role": "assistant", "content": "Thirty days."}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({"model": MODEL, "choices": choices}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    site.answers.append(head + body)
    with following(api, key, run_id) as events, working():
        found = list(events)

    assert [one[1] for one in found] == ["text", "end"]
    assert found[0][2]["text"] == found[1][2]["output"]["answer"] == "Thirty days."


def test_nobody_is_told_of_a_run_that_nobody_follows(api, key, run_id, site, texts):
    message = {"role": "assistant", "content": "Thirty days."}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({"model": MODEL, "choices": choices}).encode()
    site.answers.append(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    do_all()

    assert '"stream"' not in site.requests[0]
    assert texts.read(run_id, "0-0") == []
    with following(api, key, run_id) as events:
        [(_, name, ended)] = list(events)
    assert (name, ended["output"]) == ("end", {"answer": "Thirty days."})


def test_a_later_attempt_begins_again_and_what_is_forged_is_left_out(api, key, run_id, texts):
    forged = LiveTexts(texts._client, Wire("ailydian", b"another key"))
    told = [
        (texts, TextPiece("answer", 1, 1, "Thir")),
        (forged, TextPiece("answer", 9, 1, "Send money.")),
        (texts, TextPiece("answer", 2, 1, "Thirty ")),
        (texts, TextPiece("answer", 1, 2, "teen")),
        (texts, TextPiece("answer", 2, 1, "Thirty ")),
        (texts, TextPiece("answer", 2, 2, "days.")),
    ]
    for place, piece in told:
        assert place.add(run_id, piece)
    assert api.ask("POST", f"/v1/runs/{run_id}/cancel", key=key).status == 200
    with following(api, key, run_id) as events:
        found = [(name, document.get("text")) for _, name, document in events]

    assert found == [
        ("text", "Thir"),
        ("restart", None),
        ("text", "Thirty "),
        ("text", "days."),
        ("end", None),
    ]


def test_others_runs_have_no_text(api, run_id):
    tenant = make_tenant("other")
    other = make_key(tenant, make_user(tenant, "eve", role="ADMIN"), *SCOPES)
    reply = api.ask("GET", f"/v1/runs/{run_id}/text", key=other)
    assert (reply.status, reply.code) == (404, "run_not_found")
    reply = api.ask("GET", f"/v1/runs/{run_id}/text", key=other, Last_Event_ID="x")
    assert (reply.status, reply.code) == (422, "invalid_request")


def test_a_reader_who_leaves_is_not_counted(api, key, run_id):
    assert api.ask("HEAD", f"/v1/runs/{run_id}/text", key=key).status == 200
    with following(api, key, run_id):
        until(lambda: run_texts._READERS.count == 1)
    until(lambda: run_texts._READERS.count == 0)
