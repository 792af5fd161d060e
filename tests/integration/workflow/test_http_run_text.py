"""/v1/runs/ID/text: the words of a model arrive while it writes; the output at the end counts."""

import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from itertools import takewhile

import pytest

from producers.accounts import api_keys, logins, sessions
from producers.accounts.sessions import ClientPlace, SessionPolicy
from producers.queries.accounts.sessions import SessionFilters
from producers.web.streams import Streams
from producers.web.workflow.run_texts import READ_AT_ONCE, TextStream
from shared import db
from shared.db import Role
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from shared.workflow.live_texts import FOLLOWED_S, PIECES_MAX, LiveTexts, TextPiece
from tests.support import factories
from tests.support.factories import do_all, environment, make_tenant, make_user
from tests.support.http_api import PEPPERS, make_busy, make_key, serving
from tests.support.patience import patience, until
from tests.support.stub_site import StubSite
from workers.steps import live_text
from workers.steps.live_text import PIECE_CHARS_MAX

MODEL = "gpt-4.1-mini"
SAY = b"""
name: say
steps:
  answer: {uses: complete, with: {prompt: "How long?", model: gpt-4.1-mini, cache: false}}
outputs:
  answer: "${{ steps.answer.output.text }}"
"""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
HEARTBEAT = (b": heartbeat\n", b"\n")
EXPIRE = """UPDATE "ApiKey" SET "expiresAt" = now() - interval '1 second' WHERE "prefix" = %s"""
DEMOTE = """UPDATE "User" SET "role" = 'ADMIN', "tenantId" = %s WHERE "id" = %s"""
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
    return start_run(api, key)


def start_run(api, key):
    """Start a run whose model is asked when a worker comes."""
    yaml = {"Content_Type": "application/yaml"}
    assert api.ask("POST", "/v1/workflows", key=key, body=SAY, **yaml).status == 201
    return api.ask("POST", "/v1/runs", key=key, body={"workflow": "say"}).document["id"]


@contextmanager
def asked(api, key, run_id, query="", **headers):
    """The answer to who asks for a run's text, of which nothing was read."""
    connection = HTTPConnection("127.0.0.1", api.port, timeout=patience(30))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(
            "GET",
            f"/v1/runs/{run_id}/text{query}",
            headers={"Authorization": f"Bearer {key}", **named},
        )
        yield connection.getresponse()
    finally:
        connection.close()


@contextmanager
def following(api, key, run_id, query="", **headers):
    """The events of a run's text, as they come: (id, name, document)."""
    with asked(api, key, run_id, query, **headers) as answer:
        assert answer.status == 200
        assert answer.getheader("content-type").startswith("text/event-stream")
        assert answer.readline() == b": follows\n"
        yield _events(answer)


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


def test_a_run_is_followed_as_long_as_somebody_reads(api, key, run_id, texts):
    followed = texts._wanted(run_id)
    with following(api, key, run_id):
        assert 0 < texts._client.ttl(followed) <= FOLLOWED_S
        texts._client.delete(followed)
        until(lambda: texts.is_followed(run_id))
        assert 0 < texts._client.ttl(followed) <= FOLLOWED_S


def test_the_text_of_a_run_is_bounded(api, key, run_id, site, texts):
    for number in range(PIECES_MAX + 1):
        assert texts.add(run_id, TextPiece("earlier", 1, number + 1, "x"))
    text = "ğ" * (PIECE_CHARS_MAX + 1)
    site.answers.append(HEAD + chunk(text) + ENDING)
    with following(api, key, run_id) as events, working():
        found = [document for _, _, document in events]

    assert found[-1]["output"] == {"answer": text}
    sizes = Counter(len(one["text"]) for one in found[:-1] if one["step"] == "answer")
    assert sizes == {PIECE_CHARS_MAX: 1, 1: 1}
    assert texts._client.xlen(texts._place(run_id)) == PIECES_MAX


def test_others_runs_have_no_text(api, run_id):
    tenant = make_tenant("other")
    other = make_key(tenant, make_user(tenant, "eve", role="ADMIN"), *SCOPES)
    reply = api.ask("GET", f"/v1/runs/{run_id}/text", key=other)
    assert (reply.status, reply.code) == (404, "run_not_found")
    reply = api.ask("GET", f"/v1/runs/{run_id}/text", key=other, Last_Event_ID="x")
    assert (reply.status, reply.code) == (422, "invalid_request")


def test_a_reader_who_leaves_is_not_counted(key, run_id, redis_url):
    streams = Streams()
    with serving(redis_url, streams=streams) as api:
        assert api.ask("HEAD", f"/v1/runs/{run_id}/text", key=key).status == 200
        until(lambda: streams.count == 0)
        with following(api, key, run_id):
            assert streams.count == 1
        until(lambda: streams.count == 0)


def test_a_quiet_text_has_heartbeats_and_ends_with_its_server(key, run_id, redis_url):
    with ExitStack() as reading:
        with serving(redis_url, streams=Streams(heartbeat_s=0.1)) as api:
            answer = reading.enter_context(asked(api, key, run_id))
            assert [answer.readline() for _ in range(4)] == [b": follows\n", b"\n", *HEARTBEAT]
        assert {*answer} <= {*HEARTBEAT}


def revoke_key(tenant_id):
    """Let a key read that is revoked."""
    key = make_key(tenant_id, make_user(tenant_id, "ann"), "runs:read")

    def revoke(conn):
        api_keys.revoke(conn, tenant_id, key[:12])

    return key, revoke


def expire_key(tenant_id):
    """Let a key read that expires."""
    key = make_key(tenant_id, make_user(tenant_id, "ann"), "runs:read")

    def expire(conn):
        conn.execute(EXPIRE, [key[:12]])

    return key, expire


def end_session(tenant_id):
    """Let a person read whose session is ended."""
    make_user(tenant_id, "ann")
    policy = SessionPolicy(PEPPERS)
    token, _ = logins.make_link(policy, "ann@example.org")
    login = logins.by_link(policy, token, ClientPlace(None, None))

    def end(conn):
        sessions.revoke(conn, policy, SessionFilters(None, id=login.id))

    return login.token, end


def lose_role(tenant_id):
    """Let somebody of all tenants read who loses the role."""
    user = make_user(None, "ann", role="SUPER_ADMIN")

    def lose(conn):
        conn.execute(DEMOTE, [tenant_id, user])

    return make_key(None, user, "runs:read"), lose


@pytest.mark.parametrize("way", [revoke_key, expire_key, end_session, lose_role])
def test_who_may_not_read_any_more_is_told_nothing_more(api, acme, key, run_id, texts, way):
    reader, lose_right = way(acme)
    with (
        asked(api, reader, run_id, "?tenant=acme") as ends,
        following(api, key, run_id) as stays,
    ):
        assert texts.add(run_id, TextPiece("answer", 1, 1, "Thirty "))
        assert next(_events(ends)) == next(stays)
        with db.transaction(None, role=Role.OWNER) as conn:
            lose_right(conn)
        began = time.monotonic()
        assert [*takewhile(lambda line: line != HEARTBEAT[0], ends)] == [b"\n"]
        took_s = time.monotonic() - began
        assert ends.isclosed(), "it goes on"
        assert texts.add(run_id, TextPiece("answer", 1, 2, "days."))
        assert next(stays)[2]["text"] == "days."

    assert took_s < patience(2.5)


def test_a_tenant_has_its_share_of_readers_and_no_more(api, acme, key, run_id):
    make_busy(acme)
    tenant = make_tenant("other")
    other = make_key(tenant, make_user(tenant, "eve", role="ADMIN"), *SCOPES)
    its = start_run(api, other)
    with ExitStack() as readers, ThreadPoolExecutor(TextStream.tenant_max + 5) as threads:
        asking = [asked(api, key, run_id) for _ in range(TextStream.tenant_max + 5)]
        answers = [*threads.map(readers.enter_context, asking)]
        refused = [one for one in answers if one.status != 200]
        with following(api, other, its):
            pass

        assert Counter(one.status for one in answers) == {200: TextStream.tenant_max, 429: 5}
        assert {json.loads(one.read())["code"] for one in refused} == {"too_many_streams"}


def test_a_redis_that_hangs_keeps_no_other_request_waiting(api, acme, key, run_id):
    tenant = make_tenant("other")
    other = make_key(tenant, make_user(tenant, "eve", role="ADMIN"), *SCOPES)
    its = start_run(api, other)
    for one in (acme, tenant):
        make_busy(one)
    # It takes connections and never answers; who waits is let go when it is closed.
    silence = socket.create_server(("127.0.0.1", 0), backlog=128)
    silence.setblocking(False)
    held = []

    def connections():
        try:
            while True:
                held.append(silence.accept()[0])
        except BlockingIOError:
            return len(held)

    url = f"redis://127.0.0.1:{silence.getsockname()[1]}?socket_timeout=600"
    with serving(url) as hung, ExitStack() as all_:
        all_.callback(lambda: [one.close() for one in held])
        all_.enter_context(silence)
        for who, run in [(key, run_id), (other, its)] * TextStream.tenant_max:
            assert all_.enter_context(asked(hung, who, run)).status == 200
        until(lambda: connections() >= READ_AT_ONCE)
        reply = hung.ask("GET", f"/v1/runs/{run_id}", key=key)

        assert (reply.status, connections()) == (200, READ_AT_ONCE)
