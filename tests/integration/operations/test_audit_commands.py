"""The commands of the sealed audit log, and its exports."""

import json
import subprocess
import sys

import pytest

from producers.operations import audit_keys, audit_verifier
from producers.operations.audit_log import VERIFIER
from shared import db
from shared.db import Role
from shared.settings import settings
from tests.support.commands import document
from tests.support.factories import make_tenant, rows
from tests.support.sealed_log import note, seal


@pytest.fixture
def tenant(pool):
    """A tenant with two entries; one entry is the system's."""
    made = make_tenant("acme")
    note(made, "a", "b")
    note(None, "c")
    seal(audit_keys.audit_keys(settings()))
    return made


def change(action, to):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "AuditLog" SET "action" = %s WHERE "action" = %s', [to, action])


def test_verify_counts_what_it_compared(run, tenant):
    assert document(run("audit", "verify", "--json"))["entries"] == 3
    assert document(run("audit", "verify", "--tenant", "acme", "--json"))["entries"] == 2
    found = document(run("audit", "verify", "--system", "--json"))
    assert (found["ok"], found["entries"], found["firstBroken"]) == (True, 1, None)


def test_verify_fails_and_names_the_first_broken_entry(run, tenant):
    change("b", "innocent")

    code, output = run("audit", "verify", "--json")
    found = json.loads(output)

    assert (code, found["ok"], found["firstBroken"]["seq"]) == (1, False, 2)
    assert found["firstBroken"]["why"] == "the entry was changed"
    code, output = run("audit", "verify")
    assert code == 1
    assert f"Chain {tenant}, entry 2" in output
    assert run("audit", "verify", "--system")[0] == 0


def test_verify_compares_with_what_was_kept(run, tenant, tmp_path):
    code, lines = run("audit", "checkpoints", "--lines")
    assert code == 0
    kept = tmp_path / "kept.jsonl"
    kept.write_text(lines)
    assert run("audit", "verify", "--against", str(kept))[0] == 0
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            'TRUNCATE "AuditLog", "AuditSeal", "AuditHead", "AuditCheckpoint", "AuditChain"'
        )

    assert run("audit", "verify")[0] == 0
    code, output = run("audit", "verify", "--against", str(kept))
    assert code == 1
    assert "Checkpoint 1 is missing: it was kept outside." in output


def test_an_export_is_verified_by_one_file_alone(run, tenant, tmp_path):
    path = tmp_path / "export.jsonl"
    assert run("audit", "export", "--tenant", "acme", "--output", str(path))[0] == 0
    alone = tmp_path / "audit_verifier.py"
    alone.write_text(run("audit", "verifier")[1])
    kept = tmp_path / "kept.jsonl"
    kept.write_text(run("audit", "checkpoints", "--lines")[1])
    key = document(run("audit", "key", "--json"))["signing"]

    right = verified(alone, path, "--key", key, "--checkpoints", str(kept))
    assert (right.returncode, right.stdout) == (0, "ok: 2 entries of 1 chains, checkpoint 1\n")
    assert verified(alone, path, "--key", "00" * 32).returncode == 1
    assert [row[0] for row in rows("""SELECT "action" FROM "AuditLog" ORDER BY "id" """)][-1] == (
        "audit.export"
    )


def verified(alone, path, *arguments):
    return subprocess.run(
        [sys.executable, "-I", str(alone), str(path), *arguments],
        cwd=alone.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_no_line_of_an_export_can_be_changed_or_left_out(run, tenant, tmp_path):
    path = tmp_path / "export.jsonl"
    run("audit", "export", "--all", "--output", str(path))
    lines = path.read_bytes().splitlines(keepends=True)
    assert audit_verifier.verify_export(lines, []).entries == 3

    for index, line in enumerate(lines):
        without = lines[:index] + lines[index + 1 :]
        other = json.dumps(json.loads(line) | {"x": 1}).encode() + b"\n"
        changed = [*lines[:index], other, *lines[index + 1 :]]
        twice = lines[: index + 1] + lines[index:]
        cut = lines[:index]
        wrong = [without, twice, cut] + ([changed] if b'"signature"' not in line else [])
        for forged in wrong:
            with pytest.raises(audit_verifier.ExportBroken):
                audit_verifier.verify_export(forged, [])


def test_exports_of_two_periods_follow_each_other(run, tenant, tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    run("audit", "export", "--tenant", "acme", "--output", str(first))
    note(tenant, "d")
    seal(audit_keys.audit_keys(settings()))
    [(at,)] = rows("""SELECT "at" FROM "AuditCheckpoint" WHERE "number" = 2""")
    run("audit", "export", "--tenant", "acme", "--since", at.isoformat(), "--output", str(second))

    entries = [json.loads(line) for line in second.read_text().splitlines()]
    assert [(one["seq"], one["action"]) for one in entries if one["type"] == "entry"] == [
        (3, "audit.export"),
        (4, "d"),
    ]
    assert verified(VERIFIER, second).returncode == 0


def test_an_export_of_nothing_says_so(run, pool):
    code, output = run("audit", "export", "--system")

    assert code == 1
    assert "Nothing was sealed in this time" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "--tenant", "acme", "--system"],
        ["export"],
        ["export", "--all", "--system"],
        ["export", "--all", "--json"],
    ],
)
def test_what_excludes_each_other_is_wrong_usage(run, tenant, arguments):
    assert run("audit", *arguments)[0] == 2
