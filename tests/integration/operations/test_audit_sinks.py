"""Checkpoints of the audit log reach places outside the database, each once and in order."""

import json
import threading

import pytest

from producers.operations import audit_checkpoints, audit_log, audit_sinks, incident_sweep
from producers.operations.audit_checkpoints import CheckpointRefused
from shared import db
from shared.db import Role
from shared.errors import ConfigurationBroken
from shared.settings import Settings
from tests.support import sealed_log
from tests.support.factories import rows
from tests.support.sealed_log import note, seal
from tests.support.stub_site import StubSite, answer


def settings_of(sinks, **more):
    return Settings(audit_key=sealed_log.SECRET, audit_sinks=str(sinks), **more)


def bring(settings):
    return audit_sinks.sweep(settings, threading.Event())


def seal_each(*actions):
    """A checkpoint an action."""
    for action in actions:
        note(None, action)
        seal()


def numbers(path):
    lines = path.read_bytes().splitlines()
    return [json.loads(json.loads(line)["body"])["number"] for line in lines]


def test_a_file_gets_each_checkpoint_once_and_verifies_the_log(pool, tmp_path):
    path = tmp_path / "kept" / "checkpoints.jsonl"
    settings = settings_of(path)
    seal_each("a", "b")

    assert (bring(settings), bring(settings)) == (2, 0)
    seal_each("c")
    assert bring(settings) == 1

    assert numbers(path) == [1, 2, 3]
    with path.open("rb") as lines:
        assert audit_log.verify_audit(settings, against=lines, where="kept").ok


def test_a_line_that_a_crash_cut_off_is_passed_over(pool, tmp_path):
    path = tmp_path / "checkpoints.jsonl"
    settings = settings_of(path)
    seal_each("a")
    bring(settings)
    path.write_bytes(path.read_bytes() + b'{"body":"{')
    seal_each("b")
    assert bring(settings) == 1

    with path.open("rb") as lines:
        found = audit_checkpoints.read_kept(lines, sealed_log.KEYS.trusted, where="kept")
    assert [one.body["number"] for one in found] == [1, 2]


def test_a_file_that_cannot_be_written_gets_all_later_and_stops_nothing(pool, tmp_path):
    blocked, other = tmp_path / "blocked", tmp_path / "other.jsonl"
    blocked.write_text("a file, where a folder should be")
    settings = settings_of(f"{blocked}/checkpoints.jsonl, {other}")
    seal_each("a", "b")

    assert bring(settings) == 2
    assert numbers(other) == [1, 2]
    [(error,)] = rows("""SELECT "error" FROM "AuditSink" WHERE "error" IS NOT NULL""")
    assert "blocked" in error

    blocked.unlink()
    assert bring(settings) == 2
    assert numbers(blocked / "checkpoints.jsonl") == [1, 2]
    assert rows("""SELECT "error" FROM "AuditSink" WHERE "error" IS NOT NULL""") == []


def test_an_address_gets_each_by_its_number_and_again_after_an_error(pool):
    seal_each("a", "b", "c")
    with StubSite(answer(status=201), answer(status=503)) as site:
        settings = settings_of(f"{site.url}/log/", egress_allow=f"127.0.0.1:{site.port}")
        assert bring(settings) == 1
        assert rows("""SELECT "checkpoint", "error" FROM "AuditSink" """) == [
            (1, "127.0.0.1 answered with 503.")
        ]
        site.answers.extend([answer(), answer()])
        assert bring(settings) == 2

    heads = [request.split("\r\n")[0] for request in site.requests]
    assert heads == [f"PUT /log/{number:012}.json HTTP/1.1" for number in (1, 2, 2, 3)]


def test_an_address_that_egress_refuses_is_told_of(pool):
    seal_each("a")

    assert bring(settings_of("https://10.1.2.3/log")) == 0
    [(error,)] = rows("""SELECT "error" FROM "AuditSink" """)
    assert "10.1.2.3" in error


def test_a_sink_that_is_neither_file_nor_https_is_refused():
    with pytest.raises(ConfigurationBroken, match="AILYDIAN_AUDIT_SINKS: s3://bucket"):
        audit_sinks.sinks(settings_of("s3://bucket"))


def test_embedded_servers_keep_checkpoints_in_their_home(tmp_path):
    assert audit_sinks.sinks(Settings(home=tmp_path)) == [f"{tmp_path}/audit/checkpoints.jsonl"]
    assert audit_sinks.sinks(Settings(database_url="postgresql://elsewhere")) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda line: line | {"signature": "00" * 64}, "the signature is invalid"),
        (lambda line: line | {"heads": [["", 1, "00" * 32]]}, "its heads were changed"),
    ],
)
def test_what_was_kept_is_believed_only_if_it_is_signed(pool, tmp_path, change, why):
    path = tmp_path / "checkpoints.jsonl"
    seal_each("a")
    bring(settings_of(path))
    lines = [json.dumps(change(json.loads(path.read_bytes()))).encode()]

    with pytest.raises(CheckpointRefused, match=f"here, line 1: {why}"):
        audit_checkpoints.read_kept(lines, sealed_log.KEYS.trusted, where="here")
    with pytest.raises(CheckpointRefused, match="signed by another key"):
        audit_checkpoints.read_kept(
            [path.read_bytes()], sealed_log.OTHER_KEYS.trusted, where="here"
        )
    with pytest.raises(CheckpointRefused, match="here holds no checkpoint"):
        audit_checkpoints.read_kept([b"{}", b"x"], sealed_log.KEYS.trusted, where="here")


def test_a_line_in_the_middle_is_believed_because_the_next_one_names_it(pool, tmp_path):
    path = tmp_path / "checkpoints.jsonl"
    seal_each("a", "b", "c")
    bring(settings_of(path))
    first, second, third = map(json.loads, path.read_bytes().splitlines())
    body = json.loads(second["body"]) | {"root": "00" * 32}
    forged = second | {"body": json.dumps(body)}

    def read(*lines):
        raw = [json.dumps(line).encode() for line in lines]
        return audit_checkpoints.read_kept(raw, sealed_log.KEYS.trusted, where="here")

    assert [one.body["number"] for one in read(first, second, third)] == [1, 2, 3]
    for lines in ((first, forged, third), (forged, third), (first, forged)):
        with pytest.raises(CheckpointRefused, match="the signature is invalid"):
            read(*lines)
    with pytest.raises(CheckpointRefused, match="line 1: the body is invalid"):
        read(first | {"body": "{}"}, second)


def open_causes():
    return {
        cause for (cause,) in rows("""SELECT "cause" FROM "Incident" WHERE "status" = 'OPEN'""")
    }


def test_a_place_that_takes_none_for_a_minute_is_an_incident(pool, tmp_path):
    (tmp_path / "blocked").write_text("")
    seal_each("a")
    bring(settings_of(f"{tmp_path}/blocked/x"))
    incident_sweep.sweep()
    assert open_causes() == set()

    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "AuditSink" SET "heardAt" = now() - interval '61 s'""")
    incident_sweep.sweep()
    assert open_causes() == {f"audit:sink:{tmp_path}/blocked/x"}


def test_a_broken_log_is_an_incident_until_it_verifies_again(pool, tmp_path):
    seal_each("a", "b")
    settings = settings_of(tmp_path / "x")
    change(to="innocent")
    assert not audit_log.verify_audit(settings).ok
    incident_sweep.sweep()
    assert open_causes() == {"audit:broken"}

    change(to="b")
    assert audit_log.verify_audit(settings).ok
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""UPDATE "Incident" SET "lastSeenAt" = now() - interval '1 hour'""")
    incident_sweep.sweep()
    assert open_causes() == set()


def change(*, to):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "AuditLog" SET "action" = %s WHERE "id" =
               (SELECT "auditId" FROM "AuditSeal" WHERE "seq" = 2)""",
            [to],
        )
