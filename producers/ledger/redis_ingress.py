"""Redis ingress: services without Postgres publish with XADD and read the reply.

    XADD ailydian:publish * job NAME tenant SLUG key K payload JSON
    BLPOP ailydian:reply:K 5

The field `traceparent` is optional: the request's trace, in W3C format.

Other publishers have a stream of their own; see `producers.ledger.publishers`.

A request is accepted only when the reply says so: it is in the ledger then. It leaves the stream
after that commit; after a crash in between it is read again, and its key makes it a duplicate.

One entry costs no other: what raises something unexpected is left for another try, and goes to the
quarantine when it was delivered `DELIVERIES_MAX` times.
"""

import json
import math
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import psycopg
import redis
import structlog

from producers.ledger import ingress_streams
from producers.ledger.ingress_entries import (
    FIELD_BYTES_MAX,
    IngressRequest,
    quarantined,
    queue_of,
    read_request,
    reply_key,
    slices,
)
from producers.ledger.ingress_floods import QUIET_MAX, Flood, Floods
from producers.ledger.ingress_streams import BATCH_MAX, DELIVERIES_MAX, GROUP, Entry, Stream
from producers.ledger.publishers import DEFAULT, PUBLISHERS_MAX, Rights, rights_of
from producers.queries.ledger import publishers
from producers.queries.operations import incidents
from producers.queries.operations.incidents import NewIncident
from shared import db
from shared.db import Role
from shared.errors import AilydianError, PublisherRefused, ServerUnavailable, TenantNotFound
from shared.ids import TenantId
from shared.ledger.outbox import Published, publish_received, published_by
from shared.ledger.wakeups import AWAY, BLOCK_S, is_wrong_type
from shared.observability import outages
from shared.queries.accounts import accounts
from shared.queries.ledger import quarantines

__all__ = ["BATCH_MAX", "FIELD_BYTES_MAX", "GROUP", "REPLY_TTL_S", "RedisIngress"]

log = structlog.get_logger()

REPLY_TTL_S = 3_600
CHECK_EVERY_S = 2.0
MESSAGE_CHARS_MAX = 2_000
_AWAY_S = 1.0

# What an entry is answered with; None while it is left for another try.
Reply = dict[str, Any] | None


class RedisIngress:
    """One reader of the stream; several share it as a consumer group."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._streams = [ingress_streams.stream_of(namespace, DEFAULT)]
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._floods = Floods()
        self._taken_over = ""  # the stream that was served last of those that readers have left
        self._check_at = 0.0
        self._untold: list[NewIncident] = []

    def run(self, stop: threading.Event) -> None:
        """Read, answer and acknowledge requests until stopped."""
        while not stop.is_set():
            try:
                self._open()
                while not stop.is_set():
                    self.check()
                    self.turn(block_s=min(BLOCK_S, CHECK_EVERY_S))
            except (*AWAY, ServerUnavailable, psycopg.Error) as error:
                if is_wrong_type(error):
                    for stream in self._streams:
                        ingress_streams.mend_type(self._client, stream)
                    continue
                outages.note(error, role="door")
                stop.wait(_AWAY_S)

    def turn(self, *, block_s: float) -> int:
        """Serve pending entries, waiting up to `block_s` for them. Returns how many.

        A turn is what other readers have left of one stream, a few entries of each stream that has
        no more than those, and a batch of one that has: no publisher waits for another's flood.
        """
        served = self._take_over()
        at_once = served or self._floods
        found = ingress_streams.read_new(
            self._client,
            self._floods.quiet(self._streams),
            self._name,
            count=QUIET_MAX,
            block_s=None if at_once else block_s,
        )
        self._serve_each(found)
        served += sum(len(entries) for _, entries in found)
        flood = self._floods.next(self._streams)
        return served if flood is None else served + self._serve_flood(flood)

    def _serve_each(self, found: Sequence[tuple[Stream, Sequence[Entry]]]) -> None:
        for position, (stream, entries) in enumerate(found):
            if len(entries) == QUIET_MAX:
                self._floods.begin(stream)
            try:
                self._serve(stream, entries)
            except (ServerUnavailable, psycopg.Error):
                for other, rest in found[position + 1 :]:
                    ids = [entry for entry, _ in rest]
                    ingress_streams.give_back(self._client, other, self._name, ids)
                raise

    def _take_over(self) -> int:
        """Serve what other readers have left of one stream, of each in its turn."""
        left = ingress_streams.abandoned(self._client, self._streams)
        behind = [one for one in left if one[0].key > self._taken_over]
        for stream, pending in behind or left:
            claimed = ingress_streams.claim_abandoned(self._client, stream, self._name, pending)
            self._taken_over = stream.key
            if claimed.worn:
                self._quarantine(stream, claimed.entries)
            else:
                self._serve(stream, claimed.entries)
            if claimed.entries:
                return len(claimed.entries)
        return 0

    def _serve_flood(self, flood: Flood) -> int:
        found = ingress_streams.read_new(
            self._client, [flood.stream], self._name, count=flood.count, block_s=None
        )
        entries = found[0][1] if found else []
        began = time.monotonic()
        self._serve(flood.stream, entries)
        self._floods.served(flood, len(entries), time.monotonic() - began)
        return len(entries)

    def check(self) -> None:
        """Every `CHECK_EVERY_S` look for new publishers and for streams that are used up.

        A stream that takes no more entries is repaired, and told of.
        """
        if time.monotonic() < self._check_at:
            return
        self._check_at = time.monotonic() + CHECK_EVERY_S
        self._open()
        failed: redis.ResponseError | None = None
        for stream in self._streams:
            try:
                self._look_at(stream)
            except redis.ResponseError as error:  # costs the other streams nothing
                if is_wrong_type(error):
                    ingress_streams.mend_type(self._client, stream)
                else:
                    failed = error
        if failed is not None:
            raise failed
        while self._untold:
            with db.transaction(None, role=Role.RELAY) as conn:
                incidents.raise_incident(conn, self._untold[0])
            self._untold.pop(0)

    def _open(self) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            names = publishers.select_names(conn, limit=PUBLISHERS_MAX)
        wanted = [DEFAULT, *(name for name in names if name != DEFAULT)]
        self._streams = [ingress_streams.stream_of(self._namespace, name) for name in wanted]
        for stream in self._streams:
            ingress_streams.open_group(self._client, stream)

    def _look_at(self, stream: Stream) -> None:
        last_id = ingress_streams.used_up_by(self._client, stream)
        if last_id is not None:
            moved = ingress_streams.repair(self._client, stream, last_id)
            log.error("door.repaired", stream=stream.key, last_id=last_id, moved=moved)
            self._untold.append(_incident(stream, last_id, moved))
        elif self._client.exists(stream.moved):
            moved = ingress_streams.move_rest(self._client, stream)
            log.error("door.repaired", stream=stream.key, moved=moved)

    def _serve(self, stream: Stream, entries: Sequence[Entry]) -> None:
        """Answer entries, slice by slice.

        If the server fails, those that are left are given back as if never delivered.
        """
        done = 0
        for part in slices(entries):  # none where another reader was faster
            try:
                replies = _replies(stream.publisher, part)
            except (ServerUnavailable, psycopg.Error):
                ids = [entry for entry, _ in entries[done:]]
                ingress_streams.give_back(self._client, stream, self._name, ids)
                raise
            self._send(stream, [(entry, fields, replies[entry]) for entry, fields in part])
            done += len(part)

    def _send(
        self, stream: Stream, answers: Sequence[tuple[bytes, dict[bytes, bytes], Reply]]
    ) -> None:
        """Send the replies, then acknowledge the entries that are answered.

        A reply that Redis refuses costs the others nothing. A key of another type was put there by
        a client that may write to it, and gives way to the reply.
        """
        answered = [(entry, reply_key(fields), reply) for entry, fields, reply in answers if reply]
        lists = [(stream.reply_to(key), reply) for _, key, reply in answered if key is not None]
        errors = self._push(lists)
        wrong = [(key, reply) for key, reply in lists if is_wrong_type(errors.get(key))]
        if wrong:
            self._client.delete(*[key for key, _ in wrong])
            log.error("door.reply_replaced", keys=[key[:200] for key, _ in wrong][:10])
            errors |= dict.fromkeys([key for key, _ in wrong]) | self._push(wrong)
        # Replaced again meanwhile: its client gets no reply.
        failed = {key: one for key, one in errors.items() if one and not is_wrong_type(one)}
        done = [
            entry for entry, key, _ in answered if key is None or stream.reply_to(key) not in failed
        ]
        if done:
            with self._client.pipeline(transaction=False) as pipe:
                pipe.xack(stream.key, GROUP, *done)
                pipe.xdel(stream.key, *done)
                pipe.execute()
        for error in failed.values():
            raise error

    def _push(self, replies: Sequence[tuple[bytes, Reply]]) -> dict[bytes, Exception | None]:
        """Append replies to their lists. Returns the errors of Redis by the list's key."""
        with self._client.pipeline(transaction=False) as pipe:
            for key, reply in replies:
                pipe.rpush(key, json.dumps(reply))
                pipe.expire(key, REPLY_TTL_S)
            said = pipe.execute(raise_on_error=False)[::2]
        pairs = zip(replies, said, strict=True)
        return {key: one for (key, _), one in pairs if isinstance(one, Exception)}

    def _quarantine(self, stream: Stream, entries: Sequence[Entry]) -> None:
        """Keep entries that were delivered too often, and say so in a reply."""
        log.error("door.quarantined", stream=stream.key, entries=[one for one, _ in entries])
        with db.transaction(None, role=Role.RELAY) as conn:
            for _, fields in entries:
                bad = quarantined("delivered_too_often", stream.key, fields)
                quarantines.insert_quarantined(conn, queue_of(fields), [bad], source="door")
        reply = {
            "accepted": False,
            "error": "quarantined",
            "message": f"The request was tried {DELIVERIES_MAX} times and failed each time.",
        }
        self._send(stream, [(entry, fields, reply) for entry, fields in entries])


def _replies(publisher: str, entries: Sequence[Entry]) -> dict[bytes, Reply]:
    with db.transaction(None, role=Role.RELAY) as conn:
        rights = rights_of(conn, publisher)
    replies: dict[bytes, Reply] = {}
    by_tenant: dict[str, list[IngressRequest]] = defaultdict(list)
    for entry, fields in entries:
        try:
            request = read_request(entry, fields)
            rights.check_job(request.job)
            by_tenant[request.tenant].append(request)
        except AilydianError as error:
            replies[entry] = _refused(error)
        except Exception as error:
            replies[entry] = _left(entry, error)
    for slug, requests in by_tenant.items():
        for request, reply in zip(requests, _accept(rights, slug, requests), strict=True):
            replies[request.entry] = reply
    return replies


def _accept(rights: Rights, slug: str, requests: Sequence[IngressRequest]) -> list[Reply]:
    """Publish a tenant's requests together; if that is rejected, in ever smaller parts."""
    try:
        tenant_id = _tenant(rights, slug)
    except (TenantNotFound, PublisherRefused) as error:
        return [_refused(error)] * len(requests)
    origin = "door" if rights.name == DEFAULT else f"door:{rights.name}"
    with published_by(origin):
        return _publish(tenant_id, requests)


def _publish(tenant_id: TenantId, requests: Sequence[IngressRequest]) -> list[Reply]:
    try:
        with db.transaction(tenant_id) as conn:
            published = publish_received(
                conn,
                [one.job for one in requests],
                keys=[one.key for one in requests],
                traceparents=[one.traceparent for one in requests],
            )
        return [_accepted(one) for one in published]
    except Exception as error:
        if _is_servers(error):
            raise
        if len(requests) == 1:
            expected = isinstance(error, AilydianError | psycopg.Error)
            return [_refused(error) if expected else _left(requests[0].entry, error)]
    size = math.isqrt(len(requests))
    parts = [requests[start : start + size] for start in range(0, len(requests), size)]
    return [reply for part in parts for reply in _publish(tenant_id, part)]


def _is_servers(error: Exception) -> bool:
    """Whether an error is Postgres's own, such as a full disk; a limit (54) is the entry's."""
    return isinstance(error, ServerUnavailable) or (
        isinstance(error, psycopg.OperationalError) and (error.sqlstate or "")[:2] != "54"
    )


def _tenant(rights: Rights, slug: str) -> TenantId:
    with db.transaction(None, role=Role.RELAY) as conn:
        found = accounts.select_tenant_id(conn, slug)
    rights.check_tenant(found, slug)
    if found is None:
        raise TenantNotFound(f"No tenant has the slug {slug[:FIELD_BYTES_MAX]!r}.")
    return found


def _accepted(one: Published) -> dict[str, Any]:
    return {"accepted": True, "id": one.id, "duplicate": one.duplicate, "state": one.state}


def _refused(error: Exception) -> dict[str, Any]:
    code = error.code if isinstance(error, AilydianError) else "refused"
    message = db.sentence(error)  # it may quote what was sent
    if len(message) > MESSAGE_CHARS_MAX:
        message = f"{message[:MESSAGE_CHARS_MAX]}..."
    return {"accepted": False, "error": code, "message": message}


def _left(entry: bytes, error: Exception) -> Reply:
    """Leave an entry that raised what nobody expected: it comes again, three times at most."""
    log.error("door.failed", entry=entry, error=type(error).__name__, exc_info=error)
    return None


def _incident(stream: Stream, last_id: str, moved: int) -> NewIncident:
    return NewIncident(
        None,
        f"door:{stream.key}",
        f"The stream {stream.key} was used up",
        f"Somebody who may write to it gave the id {last_id}, after which Redis takes no entry "
        f"of anybody. It was replaced within seconds and {moved} waiting requests were kept. See "
        "who may write: `redis-cli ACL LIST`.",
        "HIGH",
        1.0,
    )
