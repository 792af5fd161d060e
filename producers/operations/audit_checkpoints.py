"""Checkpoints of the audit log as they are kept outside the database: one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from producers.operations import audit_verifier
from producers.queries.operations.audit_seals import ChainEnd, StoredCheckpoint
from shared.errors import PermanentError


class CheckpointRefused(PermanentError):
    """What was kept outside is not a checkpoint of this log."""

    code = "checkpoint_refused"


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint that was kept outside: `text` is its body as it was signed."""

    text: str
    body: Mapping[str, Any]
    heads: Sequence[ChainEnd]


def line(signed: StoredCheckpoint, moved: Sequence[ChainEnd]) -> bytes:
    """Return a checkpoint as it is kept outside: a line of JSON."""
    heads = [[end.chain, end.seq, end.hash.hex()] for end in moved]
    document = {"body": signed.body, "signature": signed.signature, "heads": heads}
    return audit_verifier.canonical(document) + b"\n"


def read_kept(
    lines: Iterable[bytes], trusted: Iterable[str], *, where: str
) -> list[KeptCheckpoint]:
    """Read checkpoints that were kept outside. A line that a crash cut off is passed over.

    Args:
        lines: Lines as `line` makes them.
        trusted: Public keys that are believed.
        where: Where they come from, for errors.

    Raises:
        CheckpointRefused: There is none, or one is not signed by a trusted key.
    """
    believed, found = frozenset(trusted), []
    after: Mapping[str, Any] | None = None
    # From the end: who signed one has signed what it names, the one before it.
    for number, one, signature in reversed([*_parsed(lines, where)]):
        named = after is not None and after["previous"] == audit_verifier.body_hash(one.text)
        if not named and not audit_verifier.is_signed(one.text, signature, one.body["key"]):
            raise CheckpointRefused(f"{where}, line {number}: the signature is invalid.")
        if one.body["key"] not in believed:
            raise CheckpointRefused(
                f"{where}, line {number}: signed by another key, {one.body['key']}. Add its "
                "secret to AILYDIAN_AUDIT_KEY, after a comma."
            )
        if one.body["moved"] != audit_verifier.heads_hash(one.heads):
            raise CheckpointRefused(f"{where}, line {number}: its heads were changed.")
        found.append(one)
        after = one.body
    if not found:
        raise CheckpointRefused(f"{where} holds no checkpoint.")
    return found[::-1]


def _parsed(lines: Iterable[bytes], where: str) -> Iterator[tuple[int, KeptCheckpoint, str]]:
    for number, raw in enumerate(lines, 1):
        try:
            document = json.loads(raw)
            heads = [ChainEnd(of, seq, bytes.fromhex(at)) for of, seq, at in document["heads"]]
            text, signature = document["body"], document["signature"]
        except (ValueError, TypeError, KeyError):
            continue
        body = opened_body(text)
        if body is None:
            raise CheckpointRefused(f"{where}, line {number}: the body is invalid.")
        yield number, KeptCheckpoint(text, body, heads), signature


def opened_body(text: str) -> Mapping[str, Any] | None:
    """Return a checkpoint's body; None if it is none."""
    wanted = {"log": str, "number": int, "at": str, "root": str, "moved": str, "key": str}
    try:
        body = json.loads(text)
        datetime.fromisoformat(body["at"])
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(body, dict) or "previous" not in body:
        return None
    if not all(isinstance(body.get(name), kind) for name, kind in wanted.items()):
        return None
    return body
