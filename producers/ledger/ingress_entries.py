"""Entries of the Redis door: what a valid one has, and what is kept of one that is quarantined."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shared.contracts import CONTRACTS, Contract, contract_named
from shared.errors import PayloadRefused, PayloadTooLarge, UnknownJob
from shared.json_values import read_json
from shared.ledger.outbox import PAYLOAD_BYTES_MAX, payload_of
from shared.queries.ledger.quarantines import BadMessage

FIELD_BYTES_MAX: Final = 256
REPLY_KEY_BYTES_MAX: Final = 4_096  # the sender of a key that is too long should get a reply
# What needs no reading to be refused: an escaped letter takes six bytes in place of one.
PAYLOAD_TEXT_BYTES_MAX: Final = 6 * PAYLOAD_BYTES_MAX
# What is served before its replies go out.
SLICE_BYTES_MAX: Final = 1_000_000
_KEPT_BYTES: Final = 64 * 1024
_REQUIRED: Final = frozenset({b"job", b"tenant", b"key", b"payload"})
_OPTIONAL: Final = frozenset({b"traceparent"})

Fields = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class IngressRequest:
    """A valid entry of the stream."""

    entry: bytes
    tenant: str
    key: str
    job: Contract
    traceparent: str | None


def read_request(entry: bytes, fields: Fields) -> IngressRequest:
    """Read an entry.

    Raises:
        PayloadTooLarge: More than could become 64 kB.
        PayloadRefused: Other fields, other bytes than UTF-8, or a payload that does not fit.
        UnknownJob: No contract has this name.
    """
    _bounded(fields)
    try:
        texts = {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError:
        raise PayloadRefused("A field is not UTF-8.") from None
    if any("\0" in text for text in texts.values()):
        raise PayloadRefused("A field has a NUL character, which Postgres cannot store.")
    contract = contract_named(texts["job"])
    payload = read_json(texts["payload"])
    if not isinstance(payload, dict):
        raise PayloadRefused("The payload is not a JSON object.")
    job = contract.from_payload(payload, contract.schema_version)
    if len(fields[b"payload"]) > PAYLOAD_BYTES_MAX:
        payload_of(job)  # what is too large says so before who may publish it is asked
    return IngressRequest(entry, texts["tenant"], texts["key"], job, texts.get("traceparent"))


def slices(entries: Sequence[tuple[bytes, Fields]]) -> Iterator[list[tuple[bytes, Fields]]]:
    """Part entries, so that nobody waits for the reply until all of a large batch is served."""
    part: list[tuple[bytes, Fields]] = []
    size = 0
    for entry, fields in entries:
        more = sum(len(name) + len(value) for name, value in fields.items())
        if part and size + more > SLICE_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append((entry, fields))
        size += more
    if part:
        yield part


def _bounded(fields: Fields) -> None:
    """Refuse what is too large before any of it is decoded, or sent to Postgres."""
    if fields.keys() - _OPTIONAL != _REQUIRED:
        raise PayloadRefused(
            "An entry must have the fields job, tenant, key and payload, and may have traceparent."
        )
    if len(fields[b"job"]) > FIELD_BYTES_MAX:
        raise UnknownJob(f"The name of a job is at most {FIELD_BYTES_MAX} bytes.")
    for name in (b"key", b"tenant", b"traceparent"):
        if len(fields.get(name, b"")) > FIELD_BYTES_MAX:
            raise PayloadRefused(f"The {name.decode()} must be at most {FIELD_BYTES_MAX} bytes.")
    if not fields[b"key"]:
        raise PayloadRefused(f"The key must be 1-{FIELD_BYTES_MAX} bytes.")
    if len(fields[b"payload"]) > PAYLOAD_TEXT_BYTES_MAX:
        raise PayloadTooLarge(
            f"The payload must be at most {PAYLOAD_BYTES_MAX:,} bytes; keep the bytes in a table "
            "and send their id."
        )


def reply_key(fields: Fields) -> bytes | None:
    """Return the key's bytes as sent: the reply's name uses them unchanged."""
    key = fields.get(b"key", b"")
    return key if 0 < len(key) <= REPLY_KEY_BYTES_MAX else None


def queue_of(fields: Fields) -> str:
    """Return the queue whose operators look at an entry: its job's, if it names one."""
    contract = CONTRACTS.get(_text(fields.get(b"job", b"")))
    return "maintenance" if contract is None else contract.queue_name


def quarantined(reason: str, stream: str, fields: Fields) -> BadMessage:
    """Return an entry as the quarantine keeps it: its stream and fields as one JSON object."""
    # A field that is called "stream" does not say where it came from.
    texts = {_text(name): _text(value) for name, value in fields.items()} | {"stream": stream}
    message = json.dumps(texts, ensure_ascii=False).encode()
    digest = hashlib.sha256(message).hexdigest()
    return BadMessage(reason, message[:_KEPT_BYTES], len(message), digest)


def entry_of(message: bytes) -> tuple[str, Fields] | None:
    """Return the stream and the fields of a quarantined entry, None where it is not a whole one."""
    try:
        kept = read_json(message.decode())
    except (PayloadRefused, UnicodeDecodeError):
        return None
    if not isinstance(kept, dict) or not all(isinstance(one, str) for one in kept.values()):
        return None
    stream = kept.pop("stream", "")
    fields = {name.encode(): text.encode() for name, text in kept.items()}
    return (stream, fields) if fields.keys() - _OPTIONAL == _REQUIRED else None


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
