"""Streams of the Redis door: who reads which entry, and the repair of one that is used up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from producers.ledger.ingress_entries import Fields
from producers.ledger.publishers import DEFAULT
from shared.ledger.wakeups import mend

GROUP: Final = "ledger"
BATCH_MAX: Final = 200
ABANDONED_MS: Final = 30_000
# What is delivered more often than this goes to the quarantine, whatever it did to its readers.
DELIVERIES_MAX: Final = 3
# An id that lies so far ahead of Redis's clock was given by hand. After the last possible one,
# 18446744073709551615-18446744073709551615, XADD refuses every entry of everybody.
AHEAD_MS_MAX: Final = 24 * 3_600_000
_FIELDS_KEPT: Final = 100

Entry = tuple[bytes, Fields]


@dataclass(frozen=True, slots=True)
class Stream:
    """A publisher's stream, where its replies go, and where it is moved for its repair."""

    publisher: str
    key: str
    reply: bytes
    moved: str

    def reply_to(self, key: bytes) -> bytes:
        """Return the list that the sender of a request waits for."""
        return self.reply + key


def stream_of(namespace: str, publisher: str) -> Stream:
    """Return the stream of a publisher; the default one's has no name in it.

    The replies of the others lie where no key of the default one's reaches.
    """
    if publisher == DEFAULT:
        key, reply = "publish", "reply:"
    else:
        key, reply = f"publish:{publisher}", f"replies:{publisher}:"
    moved = f"{namespace}:moved:{key}"
    return Stream(publisher, f"{namespace}:{key}", f"{namespace}:{reply}".encode(), moved)


@dataclass(frozen=True, slots=True)
class Claimed:
    """Entries that a reader has taken over; `worn` were delivered too often."""

    entries: list[Entry]
    worn: bool


def open_group(client: redis.Redis, stream: Stream) -> None:
    """Create the stream and its group of readers, where they do not exist."""
    try:
        client.xgroup_create(stream.key, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):  # it exists: another process created it
            raise


def mend_type(client: redis.Redis, stream: Stream) -> None:
    """Delete a stream's keys that were overwritten with another type; what is a stream stays."""
    if client.type(stream.key) != b"stream":
        mend(client, stream.key)
    if client.type(stream.moved) not in {b"stream", b"none"}:
        mend(client, stream.moved)


def abandoned(client: redis.Redis, streams: Sequence[Stream]) -> list[tuple[Stream, Any]]:
    """Return the streams with entries that other readers have left, and which those are."""
    with client.pipeline(transaction=False) as pipe:
        for stream in streams:
            pipe.xpending_range(stream.key, GROUP, "-", "+", BATCH_MAX, idle=ABANDONED_MS)
        # redis-py types its answers for every protocol and client at once: name what comes.
        said: Any = pipe.execute(raise_on_error=False)
    for one in said:
        if isinstance(one, Exception):
            raise one
    return [(stream, left) for stream, left in zip(streams, said, strict=True) if left]


def claim_abandoned(client: redis.Redis, stream: Stream, reader: str, left: Any) -> Claimed:  # noqa: ANN401 - as above
    """Take over what other readers have left.

    What was given back (`give_back`) is taken together. What a reader had in hand when it ended is
    taken one by one, the oldest first: if one of them ends this reader too, that one alone counts
    another delivery.
    """
    free = [one["message_id"] for one in left if one["times_delivered"] == 0]
    ids = free or [left[0]["message_id"]]
    worn = not free and left[0]["times_delivered"] >= DELIVERIES_MAX
    taken: Any = client.xclaim(stream.key, GROUP, reader, ABANDONED_MS, ids)
    return Claimed([(entry, fields) for entry, fields in taken if entry is not None], worn)


def give_back(client: redis.Redis, stream: Stream, reader: str, entries: list[Any]) -> None:
    """Return entries as if they had never been delivered: a server failed, not they."""
    client.xclaim(
        stream.key, GROUP, reader, 0, entries, idle=ABANDONED_MS, retrycount=0, justid=True
    )


def read_new(
    client: redis.Redis, streams: list[Stream], reader: str, *, count: int, block_s: float | None
) -> list[tuple[Stream, list[Entry]]]:
    """Read new entries, at most `count` of each stream, waiting up to `block_s` for the first."""
    if not streams:
        return []
    block = None if block_s is None else max(int(block_s * 1000), 1)
    by_key = {stream.key.encode(): stream for stream in streams}
    wanted: dict[Any, Any] = {stream.key: ">" for stream in streams}
    answer: Any = client.xreadgroup(GROUP, reader, wanted, count=count, block=block)
    return [(by_key[key], batch) for key, batch in answer or []]


def used_up_by(client: redis.Redis, stream: Stream) -> str | None:
    """Return the last id of a stream if it was not given by the clock, or None."""
    if not client.exists(stream.key):
        return None
    found: Any = client.xinfo_stream(stream.key)
    last = found["last-generated-id"].decode()
    seconds: Any = client.time()
    ahead = int(last.partition("-")[0]) - seconds[0] * 1_000
    return last if ahead > AHEAD_MS_MAX else None


def used_up(client: redis.Redis, namespace: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the streams that are used up, each with its last id."""
    streams = [stream_of(namespace, name) for name in names]
    found = [(stream.key, used_up_by(client, stream)) for stream in streams]
    return [(key, last_id) for key, last_id in found if last_id is not None]


# Atomic, so that several doors may try: only the stream with that last id is set aside.
_SET_ASIDE: Final = """
    local found = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #found, 2 do
        if found[i] == 'last-generated-id' and found[i + 1] == ARGV[1] then
            return redis.call('RENAMENX', KEYS[1], KEYS[2])
        end
    end
    return 0
"""

# A page of what waits gets ids by the clock. An entry of hundreds of fields is refused anyway.
_MOVE: Final = """
    local page = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[1])
    for _, entry in ipairs(page) do
        local fields = {}
        for i = 1, math.min(#entry[2], tonumber(ARGV[2])) do fields[i] = entry[2][i] end
        redis.call('XADD', KEYS[1], '*', unpack(fields))
        redis.call('XDEL', KEYS[2], entry[1])
    end
    if #page == 0 then redis.call('DEL', KEYS[2]) end
    return #page
"""


def repair(client: redis.Redis, stream: Stream, last_id: str) -> int:
    """Put a new stream in the place of one that is used up, with the entries that wait in it.

    Returns:
        How many entries were moved. One that a reader has in hand is moved too: its key makes it a
        duplicate.
    """
    client.eval(_SET_ASIDE, 2, stream.key, stream.moved, last_id)
    return move_rest(client, stream)


def move_rest(client: redis.Redis, stream: Stream) -> int:
    """Move what an interrupted repair has left. Returns how many entries."""
    open_group(client, stream)
    total = 0
    while True:
        moved: Any = client.eval(
            _MOVE, 2, stream.key, stream.moved, str(BATCH_MAX), str(_FIELDS_KEPT)
        )
        if not moved:
            return total
        total += int(moved)
