"""Redis ingress: services without Postgres publish with XADD and read the reply.

    XADD ailydian:publish * job NAME tenant SLUG key K payload JSON
    BLPOP ailydian:reply:K 5

The field `traceparent` is optional: the request's trace, in W3C format.

A request is accepted only when the reply says so: it is in the ledger then. It leaves the stream
after that commit; after a crash in between it is read again, and its key makes it a duplicate.
"""

import json
import os
import socket
import threading
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import psycopg
import redis
import structlog

from shared import db
from shared.contracts import Contract, contract_named
from shared.db import Role
from shared.errors import AilydianError, PayloadRefused, ServerUnavailable, TenantNotFound
from shared.ids import TenantId
from shared.ledger.outbox import Published, publish_many, published_by
from shared.ledger.wakeups import AWAY, BLOCK_S, is_wrong_type, mend
from shared.observability import outages, tracing
from shared.queries.accounts import accounts

log = structlog.get_logger()

GROUP = "ledger"
BATCH_MAX = 200
REPLY_TTL_S = 3_600
FIELD_BYTES_MAX = 256
REPLY_KEY_BYTES_MAX = 4_096  # the sender of a key that is too long should get a reply
ABANDONED_MS = 30_000
_AWAY_S = 1.0
_REQUIRED = frozenset({"job", "tenant", "key", "payload"})
_OPTIONAL = frozenset({"traceparent"})

Fields = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class IngressRequest:
    """A valid entry of the stream."""

    entry: bytes
    tenant: str
    key: str
    job: Contract
    traceparent: str | None


class RedisIngress:
    """One reader of the stream; several share it as a consumer group."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._stream = f"{namespace}:publish"
        self._reply = f"{namespace}:reply:".encode()
        self._name = f"{socket.gethostname()}-{os.getpid()}"

    def run(self, stop: threading.Event) -> None:
        """Read, answer and acknowledge requests until stopped."""
        while not stop.is_set():
            try:
                self._open()
                while not stop.is_set():
                    self.turn(block_s=min(BLOCK_S, 2.0))
            except (*AWAY, ServerUnavailable, psycopg.Error) as error:
                if is_wrong_type(error):
                    mend(self._client, self._stream)
                    continue
                outages.note(error, role="door")
                stop.wait(_AWAY_S)

    def turn(self, *, block_s: float) -> int:
        """Serve pending entries, waiting up to `block_s` for them. Returns how many."""
        # redis-py types its answers for every protocol and client at once: name what comes.
        claimed: Any = self._client.xautoclaim(
            self._stream, GROUP, self._name, ABANDONED_MS, count=BATCH_MAX
        )
        entries: list[tuple[bytes, Fields]] = claimed[1]
        if not entries:
            answer: Any = self._client.xreadgroup(
                GROUP, self._name, {self._stream: ">"}, count=BATCH_MAX, block=int(block_s * 1000)
            )
            entries = [entry for _, batch in answer or [] for entry in batch]
        if entries:
            self._serve(entries)
        return len(entries)

    def _open(self) -> None:
        try:
            self._client.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):  # it exists: another process created it
                raise

    def _serve(self, entries: list[tuple[bytes, Fields]]) -> None:
        replies: dict[bytes, tuple[bytes | None, dict[str, Any]]] = {}
        by_tenant: dict[str, list[IngressRequest]] = defaultdict(list)
        for entry, fields in entries:
            try:
                request = _read(entry, fields)
                by_tenant[request.tenant].append(request)
            except AilydianError as error:
                replies[entry] = (_key(fields), _refused(error))
        for slug, requests in by_tenant.items():
            for request, reply in zip(requests, _accept(slug, requests), strict=True):
                replies[request.entry] = (request.key.encode(), reply)
        with self._client.pipeline(transaction=False) as pipe:
            for entry, (key, reply) in replies.items():
                if key is not None:
                    pipe.rpush(self._reply + key, json.dumps(reply))
                    pipe.expire(self._reply + key, REPLY_TTL_S)
                pipe.xack(self._stream, GROUP, entry)
                pipe.xdel(self._stream, entry)
            pipe.execute()


def _read(entry: bytes, fields: Fields) -> IngressRequest:
    try:
        texts = {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError:
        raise PayloadRefused("A field is not UTF-8.") from None
    if any("\0" in text for text in texts.values()):
        raise PayloadRefused("A field has a NUL character, which Postgres cannot store.")
    if texts.keys() - _OPTIONAL != _REQUIRED:
        raise PayloadRefused(
            "An entry must have the fields job, tenant, key and payload, and may have traceparent."
        )
    if not 0 < len(fields[b"key"]) <= FIELD_BYTES_MAX:
        raise PayloadRefused(f"The key must be 1-{FIELD_BYTES_MAX} bytes.")
    contract = contract_named(texts["job"])
    try:
        payload = json.loads(texts["payload"])
    except (ValueError, RecursionError):
        raise PayloadRefused("The payload is not JSON.") from None
    if not isinstance(payload, dict):
        raise PayloadRefused("The payload is not a JSON object.")
    job = contract.from_payload(payload, contract.schema_version)
    return IngressRequest(entry, texts["tenant"], texts["key"], job, texts.get("traceparent"))


def _key(fields: Fields) -> bytes | None:
    """Return the key's bytes as sent: the reply's name uses them unchanged."""
    key = fields.get(b"key", b"")
    return key if 0 < len(key) <= REPLY_KEY_BYTES_MAX else None


def _accept(slug: str, requests: list[IngressRequest]) -> list[dict[str, Any]]:
    """Publish a tenant's requests together; if that is rejected, one by one."""
    try:
        tenant_id = _tenant(slug)
        with db.transaction(tenant_id) as conn:
            published: list[Published] = []
            for header, group in groupby(requests, key=lambda request: request.traceparent):
                traced = list(group)
                keys = [request.key for request in traced]
                with tracing.continued(header), published_by("door"):
                    published += publish_many(conn, [one.job for one in traced], keys=keys)
        return [_accepted(one) for one in published]
    except ServerUnavailable:
        raise
    except (AilydianError, psycopg.Error) as error:
        if len(requests) > 1:
            return [reply for request in requests for reply in _accept(slug, [request])]
        return [_refused(error)]


def _tenant(slug: str) -> TenantId:
    with db.transaction(None, role=Role.RELAY) as conn:
        found = accounts.select_tenant_id(conn, slug)
    if found is None:
        raise TenantNotFound(f"No tenant has the slug {slug!r}.")
    return found


def _accepted(one: Published) -> dict[str, Any]:
    return {"accepted": True, "id": one.id, "duplicate": one.duplicate, "state": one.state}


def _refused(error: Exception) -> dict[str, Any]:
    code = error.code if isinstance(error, AilydianError) else "refused"
    return {"accepted": False, "error": code, "message": db.sentence(error)}
