"""/v1/documents: uploads are streamed, stored whole, repeated once, refused in a sentence."""

import hashlib
import socket
import threading
import time
from contextlib import closing, suppress

import psutil
import pytest

from producers.documents.submission import DOCUMENT_BYTES_MAX
from producers.web.connections import REQUEST_S
from producers.web.documents import uploads
from producers.web.documents.uploads import TENANT_UPLOADS_MAX
from shared.errors import AddressRefused, DocumentRefused
from tests.support.factories import (
    claim,
    do,
    do_all,
    environment,
    make_tenant,
    make_user,
    rows,
)
from tests.support.http_api import make_key
from tests.support.patience import patience, until
from tests.support.sample_documents import article, ingested
from tests.support.stub_site import StubSite, answer
from workers.parsers.model import ParserLimits
from workers.process import settlement

MB = 1024 * 1024
BOUNDARY = "a-boundary"
FORM = {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}
TIDES = b"# Tides\n\nThe sea rises and falls twice a day at this coast.\n"


@pytest.fixture
def key(acme):
    """A key of acme that may read and write documents."""
    user = make_user(acme, "bob", role="ADMIN")
    return make_key(acme, user, "documents:read", "documents:write")


@pytest.fixture
def other():
    """A key of another tenant."""
    tenant = make_tenant("other")
    user = make_user(tenant, "eve", role="ADMIN")
    return make_key(tenant, user, "documents:read", "documents:write")


def part(name, content, *, filename=None, headers=""):
    """A part of a form."""
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{headers}\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def form(content=TIDES, *, filename="tides.md", **fields):
    """A form with a file."""
    named = [part(name, value.encode()) for name, value in fields.items()]
    return b"".join([*named, part("file", content, filename=filename), END])


def upload(api, key, body, **headers):
    return api.ask("POST", "/v1/documents", key=key, body=body, **(FORM | headers))


def test_the_limits_of_uploads_and_parsers_are_one():
    assert ParserLimits().input_bytes_max == DOCUMENT_BYTES_MAX


def test_an_uploaded_file_is_ingested_and_shown(api, key, provider):
    reply = upload(api, key, form(title="Of the sea"))
    job_id = reply.document["jobId"]
    place = reply.headers["location"]
    before = api.ask("GET", place, key=key).document
    do_all()
    after = api.ask("GET", place, key=key).document
    again = upload(api, key, form(title="Of the sea"))
    document = api.ask("GET", again.headers["location"], key=key).document

    assert (reply.status, reply.document["state"]) == (202, "PUBLISHED")
    assert place == f"/v1/documents/ingestions/{job_id}"
    assert (before["status"], before["source"]) == ("PENDING", "tides.md")
    assert (after["status"], after["error"]) == ("INGESTED", None)
    assert (again.status, again.document["state"]) == (200, "UNCHANGED")
    assert (document["id"], document["title"]) == (after["documentId"], "Of the sea")
    assert document["chunks"] == document["embedded"] == after["chunks"] == 1
    [chunk] = api.ask("GET", f"/v1/documents/{document['id']}/chunks", key=key).document["items"]
    assert "twice a day" in chunk["content"]
    assert api.ask("GET", f"/v1/documents/{document['id']}/chunks?since=1", key=key).document == {
        "items": []
    }


def test_a_text_is_ingested_under_its_source(api, key, provider):
    reply = api.ask("POST", "/v1/documents", key=key, body={"text": "Hello.", "source": "a.txt"})
    do_all()

    assert reply.status == 202
    assert api.ask("GET", reply.headers["location"], key=key).document["status"] == "INGESTED"
    [(content,)] = rows('SELECT "content" FROM "Document" WHERE "source" = \'a.txt\'')
    assert content == "Hello."


def test_a_refused_document_says_why(api, key, provider):
    reply = upload(api, key, form(b"%PDF-1.7 nothing", filename="broken.pdf"))
    [lease] = claim(reply.document["jobId"])
    with pytest.raises(DocumentRefused) as refused:
        do(lease)
    settlement.settle(lease, refused.value)
    shown = api.ask("GET", reply.headers["location"], key=key).document

    assert shown["status"] == "REFUSED"
    assert shown["documentId"] is None
    assert shown["error"]


def test_a_large_upload_is_stored_whole_without_memory(api, key):
    pieces = [bytes([number]) * MB for number in range(100)]
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()
    head, tail = part("file", b"", filename="large.bin")[:-2], b"\r\n" + END
    warm = upload(api, key, form(pieces[1], filename="warm.bin"))
    process = psutil.Process()
    peak, before = [0], process.memory_info().rss
    ended = threading.Event()

    def look():
        while not ended.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        reply = _sent(api, key, head, pieces, tail)
    finally:
        ended.set()
        looking.join()

    assert (warm.status, reply) == (202, 202)
    [(sha256, size)] = rows("""
        SELECT encode(sha256("content"), 'hex'), length("content") FROM "Upload"
        WHERE length("content") > 50000000""")
    assert (sha256, size) == (digest, 100 * MB)
    assert peak[0] - before < 64 * MB
    assert rows("""SELECT * FROM "Upload" WHERE "ingestKey" LIKE 'staged:%'""") == []


def _sent(api, key, head, pieces, tail):
    """Send a form piece by piece; the status of its answer."""
    length = len(head) + sum(map(len, pieces)) + len(tail)
    with closing(_begun(api, key, length)) as client:
        client.sendall(head)
        for piece in pieces:
            client.sendall(piece)
        client.sendall(tail)
        return int(client.recv(100).split()[1])


def _begun(api, key, length):
    """A connection on which the headers of an upload have been sent."""
    client = socket.create_connection(("127.0.0.1", api.port), timeout=patience(60))
    client.sendall(
        f"POST /v1/documents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: {FORM['Content_Type']}\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    return client


def test_a_repeated_upload_is_done_once_whatever_its_boundary(api, key):
    first = upload(api, key, form(source="a.md"), Idempotency_Key="u1")
    other = form(source="a.md").replace(BOUNDARY.encode(), b"another")
    again = upload(
        api,
        key,
        other,
        Idempotency_Key="u1",
        Content_Type="multipart/form-data; boundary=another",
    )
    changed = upload(api, key, form(TIDES + b"!", source="a.md"), Idempotency_Key="u1")

    assert first.status == 202
    assert (again.status, again.body) == (202, first.body)
    assert again.headers["idempotent-replayed"] == "true"
    assert (changed.status, changed.code) == (422, "idempotency_key_reused")
    assert rows('SELECT count(*) FROM "Job"') == [(1,)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends before"),
        (b"nonsense", "RFC 7578"),
        (form()[:-4], "ends before"),
        (form().replace(b"\r\n\r\n", b"\r\n", 1), "RFC 7578"),
        (END, "no part `file`"),
        (part("file", b"x", filename="a") * 2 + END, "two parts"),
        (part("notes", b"x") + END, "unknown or repeated part 'notes'"),
        (part("title", b"a") * 2 + END, "unknown or repeated"),
        (part("title", b"\xff") + END, "the field title is not UTF-8"),
        (part("title", b"a\0b") + END, "NUL"),
        (part("title", b"x" * 20_000) + END, "more than 16,000 bytes"),
        (part("file", b"x", filename="a", headers="X-A: b\r\n" * 200) + END, "RFC 7578"),
        (
            part("file", b"eA==", filename="a", headers="Content-Transfer-Encoding: base64\r\n")
            + END,
            "Content-Transfer-Encoding",
        ),
    ],
)
def test_a_body_that_is_no_form_is_refused(api, key, body, words):
    reply = upload(api, key, body)

    assert (reply.status, reply.code) == (422, "invalid_multipart")
    assert words in reply.document["detail"]
    assert rows('SELECT * FROM "Upload"') == []


@pytest.mark.parametrize("given", ["", "; boundary=", "; boundary=" + "x" * 300])
def test_a_form_needs_a_boundary(api, key, given):
    reply = upload(api, key, form(), Content_Type=f"multipart/form-data{given}")
    assert (reply.status, reply.code) == (422, "invalid_multipart")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"lossy": "maybe"}, "invalid_request"),
        ({"title": "x" * 2_001}, "payload_refused"),
        ({"source": "x" * 2_001}, "payload_refused"),
    ],
)
def test_fields_that_do_not_fit_are_refused(api, key, fields, code):
    reply = upload(api, key, form(**fields))

    assert (reply.status, reply.code) == (422, code)
    assert rows('SELECT * FROM "Upload"') == []


def test_too_large_a_file_is_refused_while_it_comes(api, key):
    told = api.ask("POST", "/v1/documents", key=key, body=b"", Content_Length=str(10**9), **FORM)
    text = api.ask("POST", "/v1/documents", key=key, body=b"", Content_Length=str(20 * MB))

    assert (told.status, told.code) == (413, "body_too_large")
    assert (text.status, text.code) == (413, "body_too_large")
    head = part("file", b"", filename="large.bin")[:-2]
    status = _sent(api, key, head, [bytes(MB)] * 128, b"x\r\n" + END)
    assert status == 413


def test_others_documents_do_not_exist(api, acme, key, other, provider):
    document_id = ingested(acme, article(1), source="coast.md")
    [(job_id,)] = rows("""SELECT "id" FROM "Job" WHERE "job" = 'ingest_document'""")

    for path in (
        f"/v1/documents/{document_id}",
        f"/v1/documents/{document_id}/chunks",
        f"/v1/documents/ingestions/{job_id}",
    ):
        assert api.ask("GET", path, key=key).status == 200
        assert api.ask("GET", path, key=other).status == 404
    gone = api.ask("DELETE", f"/v1/documents/{document_id}", key=other)
    assert (gone.status, gone.code) == (404, "document_not_found")
    assert api.ask("GET", "/v1/documents", key=other).document["items"] == []


def test_a_deleted_document_is_gone(api, acme, key, provider):
    document_id = ingested(acme, article(1), source="coast.md")
    reply = api.ask("DELETE", f"/v1/documents/{document_id}", key=key)
    do_all()

    assert reply.status == 202
    assert api.ask("GET", f"/v1/documents/{document_id}", key=key).status == 404
    [(actor,)] = rows("""SELECT "userId" FROM "AuditLog" WHERE "action" = 'document.delete'""")
    assert actor.startswith("key:aly_")


def test_pages_of_documents_have_each_once_newest_first(api, acme, key, provider):
    made = [ingested(acme, article(n), source=f"{n}.md") for n in range(5)]
    seen, path = [], "/v1/documents?limit=2"
    while path:
        page = api.ask("GET", path, key=key).document
        seen += [one["id"] for one in page["items"]]
        path = page["next"] and f"/v1/documents?limit=2&after={page['next']}"

    assert sorted(seen) == sorted(made)
    ordered = rows('SELECT "id" FROM "Document" ORDER BY "createdAt" DESC, "id" DESC')
    assert seen == [one for (one,) in ordered]


def test_a_key_without_the_scope_uploads_nothing(api, acme):
    reading = make_key(acme, make_user(acme, "rae"), "documents:read")
    reply = upload(api, reading, form())

    assert (reply.status, reply.code) == (403, "scope_missing")
    assert upload(api, None, form()).status == 401


def test_a_slow_upload_goes_on_at_its_rate_and_a_slower_one_ends(api, key):
    body = form(b"x" * 200_000)
    with closing(_begun(api, key, len(body))) as fast:
        began = time.monotonic()
        for start in range(0, len(body), 12_000):
            fast.sendall(body[start : start + 12_000])
            until(lambda sent=start: time.monotonic() - began > sent / 30_000)
        assert time.monotonic() - began > REQUEST_S
        assert fast.recv(12) == b"HTTP/1.1 202"
    with closing(_begun(api, key, len(body))) as slow:
        slow.sendall(body[:100])
        slow.settimeout(REQUEST_S + patience(5))
        with suppress(ConnectionError):
            assert slow.recv(100) == b""


def test_a_tenant_takes_no_more_than_its_places(api, acme, key, other):
    body = form()
    held = [_begun(api, key, len(body)) for _ in range(TENANT_UPLOADS_MAX)]
    try:
        until(lambda: uploads.PLACES.taken_by(acme) == TENANT_UPLOADS_MAX)
        refused = upload(api, key, form())
        assert (refused.status, refused.code) == (503, "uploads_busy")
        assert upload(api, other, form()).status == 202
    finally:
        for one in held:
            one.close()
    until(lambda: upload(api, key, form()).status == 202)


def test_a_url_is_fetched_by_a_worker_under_the_rules_of_egress(api, key, stub):
    with StubSite(answer(TIDES, kind="text/markdown"), answer(TIDES, kind="text/markdown")) as site:
        allowed = {"AILYDIAN_EGRESS_ALLOW": f"{site.address}:{site.port}"}
        with environment(**allowed, OPENAI_BASE_URL=stub.url):
            body = {"url": f"{site.url}/tides.md", "title": "Of the sea"}
            first = api.ask("POST", "/v1/documents", key=key, body=body)
            do_all()
            again = api.ask("POST", "/v1/documents", key=key, body=body)
            do_all()
    shown = [api.ask("GET", one.headers["location"], key=key).document for one in (first, again)]

    assert (first.status, again.status, len(site.requests)) == (202, 202, 2)
    assert [one["status"] for one in shown] == ["INGESTED", "INGESTED"]
    assert shown[0]["source"] == body["url"]
    assert shown[0]["documentId"] == shown[1]["documentId"]
    assert rows('SELECT "title", "ingestVersion" FROM "Document"') == [("Of the sea", 2)]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://localhost/a", AddressRefused),
    ],
)
def test_a_url_that_may_not_be_fetched_ends_with_its_reason(api, key, url, kind):
    reply = api.ask("POST", "/v1/documents", key=key, body={"url": url})
    [lease] = claim(reply.document["jobId"])
    with pytest.raises(kind) as refused:
        do(lease)
    settlement.settle(lease, refused.value)
    shown = api.ask("GET", reply.headers["location"], key=key).document

    assert (shown["status"], shown["error"]) == ("DEAD", str(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "https://me:secret@example.org/a",
        "https://127.1/a",
        "no url",
        "https://127.0.0.1/a",
        "http://169.254.169.254/latest/meta-data",
        "http://example.org/a.md",
    ],
)
def test_a_url_that_is_refused_by_what_it_says_is_refused_at_once(api, key, url):
    reply = api.ask("POST", "/v1/documents", key=key, body={"url": url})

    assert (reply.status, reply.code) == (422, "address_refused")
    assert "secret" not in reply.document["detail"]
    assert rows('SELECT count(*) FROM "Job"') == [(0,)]


@pytest.mark.parametrize(
    "body",
    [{}, {"text": "a", "url": "https://a.example"}, {"url": "https://a.example", "source": "a"}],
)
def test_text_and_url_are_alternatives(api, key, body):
    reply = api.ask("POST", "/v1/documents", key=key, body=body)
    assert (reply.status, reply.code) == (422, "invalid_request")
