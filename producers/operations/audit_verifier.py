"""Verify an export of the audit log, alone: this file, Python and `cryptography` are enough.

    python audit_verifier.py EXPORT.jsonl --key PUBLIC_KEY [--checkpoints KEPT.jsonl]

The formulas of the log stand here and nowhere else:

- An entry's hash is SHA-256(0x02 || hash before || entry), its entry the JSON array of chain,
  number and fields (`FIELDS`) without blanks, in UTF-8. The first hash before is 32 zero bytes.
- A checkpoint's root is the Merkle tree hash of RFC 6962 over the heads of all chains, ordered by
  name; a leaf is the JSON array of chain, number and hash.
- A checkpoint's body is JSON with sorted keys and without blanks. It names the SHA-256 of the body
  before it, and is signed with Ed25519.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FORMAT = "ailydian-audit-1"
FIELDS = (
    *("id", "userId", "action", "resource", "resourceId"),
    *("ipAddress", "userAgent", "metadata", "createdAt"),
)
NOTHING = bytes(32)
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_LEAF, _NODE, _ENTRY = b"\x00", b"\x01", b"\x02"
_SIGNED = b"ailydian audit checkpoint\n"
_SIGNED_EXPORT = b"ailydian audit export\n"


class ChainHead(Protocol):
    """The last number of a chain, and the hash up to there."""

    @property
    def chain(self) -> str:
        """The tenant's id; "" for entries without a tenant."""

    @property
    def seq(self) -> int:
        """The number of the last entry, from 1; 0 before it."""

    @property
    def hash(self) -> bytes:
        """The hash of the last entry; `NOTHING` before it."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head of a chain as an export has it."""

    chain: str
    seq: int
    hash: bytes


def canonical(value: object) -> bytes:
    """Return JSON without blanks, keys sorted, in UTF-8: one text for one value."""
    return _JSON.encode(value).encode()


def entry_hash(before: bytes, chain: str, seq: int, fields: Sequence[str | None]) -> bytes:
    """Return the hash of an entry.

    Args:
        before: The hash of the entry before it; `NOTHING` for the first.
        chain: The tenant's id; "" for entries without a tenant.
        seq: Its number in the chain, from 1.
        fields: Its fields in the order of `FIELDS`, each as text.
    """
    return hashlib.sha256(_ENTRY + before + canonical([chain, seq, *fields])).digest()


def leaf(head: ChainHead) -> bytes:
    """Return the hash of a chain's head as a leaf of the Merkle tree."""
    return hashlib.sha256(_LEAF + canonical([head.chain, head.seq, head.hash.hex()])).digest()


def tree(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the Merkle tree of leaves (RFC 6962, section 2.1): its levels, from below."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        level = levels[-1]
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [hashlib.sha256(_NODE + left + right).digest() for left, right in pairs]
        levels.append(above + level[len(above) * 2 :])
    return levels


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of leaves."""
    return tree(leaves)[-1][0] if leaves else hashlib.sha256(b"").digest()


def path(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """Return the hashes that lead from a leaf to the root, from below.

    Args:
        levels: As `tree` returns them.
        index: The place of the leaf, from 0.
    """
    found = []
    for level in levels:
        if index ^ 1 < len(level):
            found.append(level[index ^ 1])
        index //= 2
    return found


def root_by_path(at: bytes, index: int, size: int, hashes: Sequence[bytes]) -> bytes:
    """Return the root that a leaf and its path lead to.

    Args:
        at: The leaf.
        index: Its place among the leaves, from 0.
        size: How many leaves there are.
        hashes: As `path` returns them.

    Raises:
        ValueError: The path has another length.
    """
    left = list(hashes)
    while size > 1:
        if index ^ 1 < size:
            if not left:
                raise ValueError("the path is too short")
            beside = left.pop(0)
            first, second = (beside, at) if index & 1 else (at, beside)
            at = hashlib.sha256(_NODE + first + second).digest()
        index, size = index // 2, (size + 1) // 2
    if left:
        raise ValueError("the path is too long")
    return at


def body_hash(body: str) -> str:
    """Return the hash of a checkpoint's body, which the next one names, as hex digits."""
    return hashlib.sha256(body.encode()).hexdigest()


def heads_hash(heads: Iterable[ChainHead]) -> str:
    """Return the hash of the heads that a checkpoint moved, in the order of their chains."""
    rows = [[head.chain, head.seq, head.hash.hex()] for head in heads]
    return hashlib.sha256(canonical(rows)).hexdigest()


def sign(key: Ed25519PrivateKey, body: str) -> str:
    """Return the signature of a checkpoint's body, as hex digits."""
    return key.sign(_SIGNED + body.encode()).hex()


def sign_export(key: Ed25519PrivateKey, digest: bytes) -> str:
    """Return the signature of an export whose lines have this SHA-256, as hex digits."""
    return key.sign(_SIGNED_EXPORT + digest).hex()


def public_key(key: Ed25519PrivateKey) -> str:
    """Return the public key, as 64 hex digits."""
    return key.public_key().public_bytes_raw().hex()


def is_signed(body: str, signature: str, key: str) -> bool:
    """Whether the holder of a key signed a checkpoint's body."""
    return _is_signed(_SIGNED + body.encode(), signature, key)


def _is_signed(text: bytes, signature: str, key: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), text
        )
    except (InvalidSignature, ValueError):
        return False
    return True


class ExportBroken(Exception):
    """The export is not what was signed; the message names the first line that shows it."""


@dataclass
class ExportReport:
    """What an export holds."""

    entries: int = 0
    heads: dict[str, Head] = field(default_factory=dict)
    checkpoint: Mapping[str, Any] = field(default_factory=dict)


def verify_export(lines: Iterable[bytes], keys: Sequence[str]) -> ExportReport:
    """Verify the lines of an export.

    Args:
        lines: The lines, as bytes.
        keys: Public keys that are trusted; empty trusts the key that the export names.

    Raises:
        ExportBroken: An entry, its order, the checkpoint or a signature is wrong.
    """
    walk = _Walk()
    for number, raw in enumerate(lines, 1):
        walk.take(number, raw)
    return walk.end(keys)


class _Walk:
    """A walk over the lines of an export: each must follow from those before it."""

    def __init__(self) -> None:
        self._report = ExportReport()
        self._at = Head("", 0, NOTHING)
        self._digest = hashlib.sha256()
        self._proofs: list[tuple[Head, Mapping[str, Any]]] = []
        self._checkpoint: Mapping[str, Any] | None = None
        self._signature: str | None = None

    def take(self, number: int, raw: bytes) -> None:
        line = _parsed(number, raw)
        if self._signature is not None:
            raise ExportBroken(f"line {number}: comes after the signature")
        if line["type"] == "signature":
            self._signature = line["signature"]
            return
        self._digest.update(raw)
        if line["type"] == "entry":
            self._entry(number, line)
        elif line["type"] == "chain":
            self._at = Head(line["chain"], line["after"], bytes.fromhex(line["hash"]))
        elif line["type"] == "head":
            self._head(number, line)
        elif line["type"] == "checkpoint":
            self._checkpoint = line
        elif line["type"] != "log":
            raise ExportBroken(f"line {number}: unknown type {line['type']!r}")

    def end(self, keys: Sequence[str]) -> ExportReport:
        if self._checkpoint is None or self._signature is None:
            raise ExportBroken("the end is missing: no checkpoint or no signature")
        body = self._report.checkpoint = _opened(self._checkpoint, keys)
        if not _is_signed(_SIGNED_EXPORT + self._digest.digest(), self._signature, body["key"]):
            raise ExportBroken("the signature does not fit the lines")
        for head, proof in self._proofs:
            hashes = [bytes.fromhex(one) for one in proof["path"]]
            try:
                found = root_by_path(leaf(head), proof["index"], body["chains"], hashes)
            except ValueError as error:
                raise ExportBroken(f"chain {head.chain!r}: {error}") from None
            if found.hex() != body["root"]:
                raise ExportBroken(f"chain {head.chain!r} is not the one of the checkpoint")
        return self._report

    def _entry(self, number: int, line: Mapping[str, Any]) -> None:
        at, seq = self._at, line["seq"]
        if seq != at.seq + 1:
            raise ExportBroken(f"line {number}: number {at.seq + 1} is missing before it")
        found = entry_hash(at.hash, at.chain, seq, [line[name] for name in FIELDS])
        if found.hex() != line["hash"]:
            raise ExportBroken(
                f"line {number}: entry {line['id']} was changed, or what was before it"
            )
        self._at = Head(at.chain, seq, found)
        self._report.entries += 1

    def _head(self, number: int, line: Mapping[str, Any]) -> None:
        found = (self._at.chain, self._at.seq, self._at.hash.hex())
        if (line["chain"], line["seq"], line["hash"]) != found:
            raise ExportBroken(f"line {number}: entries of the chain are missing before it")
        self._report.heads[self._at.chain] = self._at
        self._proofs.append((self._at, line))


def _parsed(number: int, raw: bytes) -> Mapping[str, Any]:
    try:
        line = json.loads(raw)
    except ValueError:
        raise ExportBroken(f"line {number}: invalid JSON") from None
    if not isinstance(line, dict) or "type" not in line:
        raise ExportBroken(f"line {number}: not an object with a type")
    return line


def _opened(line: Mapping[str, Any], keys: Sequence[str]) -> Mapping[str, Any]:
    body: Mapping[str, Any] = json.loads(line["body"])
    if not is_signed(line["body"], line["signature"], body["key"]):
        raise ExportBroken("the checkpoint's signature is invalid")
    if keys and body["key"] not in keys:
        raise ExportBroken(f"the checkpoint is signed by another key: {body['key']}")
    return body


def _kept(path: Path, number: int) -> str | None:
    """Return the body of a checkpoint that was kept outside; None if it is not there."""
    for raw in path.read_bytes().splitlines():
        body: str = json.loads(raw)["body"]
        if json.loads(body)["number"] == number:
            return body
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify an export and print what it holds. Returns 0 if it is whole, 1 if not."""
    parser = argparse.ArgumentParser(description="Verify an export of the audit log.")
    parser.add_argument("export", type=Path, help="what `ailydian audit export` wrote")
    parser.add_argument("--key", action="append", default=[], help="public key that is trusted")
    parser.add_argument("--checkpoints", type=Path, help="checkpoints kept outside, as JSONL")
    given = parser.parse_args(arguments)
    try:
        with given.export.open("rb") as lines:
            report = verify_export(lines, given.key)
        number = report.checkpoint["number"]
        if given.checkpoints is not None:
            kept = _kept(given.checkpoints, number)
            if kept is None or body_hash(kept) != body_hash(canonical(report.checkpoint).decode()):
                raise ExportBroken(f"checkpoint {number} is not the one that was kept")
    except (ExportBroken, KeyError, TypeError) as error:
        print(f"broken: {error}", file=sys.stderr)
        return 1
    print(f"ok: {report.entries} entries of {len(report.heads)} chains, checkpoint {number}")
    if not given.key:
        print(f"signed by {report.checkpoint['key']}: compare it, or give --key", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
