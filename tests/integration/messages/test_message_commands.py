"""`ailydian message` and `ailydian recall`, as people and scripts use them."""

import json

import pytest

from shared import db
from shared.db import Role
from shared.queries.accounts import accounts
from tests.support.commands import document
from tests.support.factories import claim, do, rows

pytestmark = pytest.mark.usefixtures("person")


@pytest.fixture
def person(acme):
    with db.transaction(None, role=Role.OWNER) as conn:
        accounts.insert_user(conn, "Ada@example.org", name="Ada", role="USER", tenant_id=acme)


ACME = ("--tenant", "acme")


def record_all():
    """Do the jobs that record and embed messages, as workers would."""
    for name in ("record_message", "embed_messages"):
        ids = rows('SELECT "id" FROM "Job" WHERE "job" = %s AND "state" = %s', name, "PENDING")
        for lease in claim(*[one for (one,) in ids]):
            do(lease)


def test_a_message_is_recorded_shown_listed_and_recalled(run):
    said = document(
        run("message", "record", "Yedekler otuz gün saklanır.", *ACME, "--user", "ada@example.org",
            "--question", "Yedekler ne kadar saklanır?", "--model", "local-extractive", "--json")
    )  # fmt: skip
    assert (said["state"], said["duplicate"]) == ("PENDING", False)
    record_all()

    ((conversation, *_),) = rows('SELECT "id" FROM "Conversation"')
    listed = document(run("message", "list", *ACME, "--user", "ada@example.org", "--json"))
    assert [(one["id"], one["messages"], one["user"]) for one in listed] == [
        (conversation, 2, "Ada@example.org")
    ]
    asked, answer = document(
        run("message", "list", *ACME, "--conversation", conversation, "--json")
    )
    assert (asked["role"], answer["role"]) == ("USER", "ASSISTANT")
    shown = document(run("message", "show", answer["id"], *ACME, "--json"))
    assert shown["content"] == "Yedekler otuz gün saklanır."
    assert shown["model"] == "local-extractive"
    assert shown["provenance"]["watermark"].startswith("v1:")
    (first, *_) = document(run("recall", "How long are backups kept?", *ACME, "--json"))
    assert first["messageId"] in {asked["id"], answer["id"]}


def test_the_same_key_is_the_same_message(run):
    for expected in (False, True):
        said = document(
            run("message", "record", "Hello", *ACME, "--role", "user", "--key", "k", "--json")
        )
        assert said["duplicate"] is expected


def test_equal_words_without_a_key_are_different_messages(run):
    for _ in range(2):
        assert not document(run("message", "record", "Hi", *ACME, "--role", "user", "--json"))[
            "duplicate"
        ]


def test_a_file_of_messages_is_recorded_at_once(run, tmp_path):
    lines = [json.dumps({"content": f"Message {at}", "role": "USER"}) for at in range(120)]
    path = tmp_path / "messages.jsonl"
    path.write_text("\n".join(lines) + "\n\n")

    made = document(run("message", "record", *ACME, "--bulk", str(path), "--json"))

    assert len({one["id"] for one in made}) == 120
    assert rows("""SELECT count(*) FROM "Job" WHERE "job" = 'record_message'""") == [(120,)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "Line 2: invalid JSON"),
        ("[1]", "Line 2: must be a JSON object"),
        ('{"content": ""}', "Line 2: record_message: content"),
        ('{"content": "x", "role": "ASSISTANT"}', "must name its model"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_accepted(run, tmp_path, line, reason):
    path = tmp_path / "messages.jsonl"
    path.write_text(json.dumps({"content": "fine", "role": "USER"}) + "\n" + line + "\n")

    code, output = run("message", "record", *ACME, "--bulk", str(path))

    assert code != 0
    assert reason in output
    assert rows('SELECT count(*) FROM "Job"') == [(0,)]


def test_nobody_and_nothing_are_named_in_one_sentence(run):
    code, output = run("message", "record", "x", *ACME, "--role", "user", "--user", "eve@x.org")
    assert (code, "no user 'eve@x.org'" in output) == (2, True)
    code, output = run("message", "show", "nothing", *ACME)
    assert (code, "has no message nothing" in output) == (2, True)
    code, output = run("message", "record", *ACME)
    assert code == 2
