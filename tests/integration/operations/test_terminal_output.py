"""What strangers have written reaches no terminal raw: in tables, fields, errors and usage."""

import io
import json
import os
import re

import pytest
from rich.text import Text

from producers.cli.terminal import drawing, output
from producers.cli.terminal.visible import visible
from tests.support.commands import document
from tests.support.factories import rows

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
HOSTILE = "a\x1b[2J\x1b]0;T\x07\x9b31m\u202eb"
SHOWN = "\\u001b[2J"

DEFINITION = """
name: esc
description: "\\e[31mRED"
steps:
  one: {uses: transform, with: {value: "\\e[31mRED\\x9b31m"}}
"""

LATIN = os.fsdecode(b"\xe7al\xfd\xfema")


@pytest.fixture
def hostile(acme):
    """A document and a tenant whose names clear the screen."""
    rows(
        """INSERT INTO "Document" ("tenantId", "title", "content", "source")
           VALUES (%s, %s, 'The cat sat on the mat.', %s) RETURNING 1""",
        acme,
        HOSTILE,
        HOSTILE,
    )
    return acme


@pytest.mark.parametrize(
    "command",
    [
        ("documents", "list", "--tenant", "acme"),
        ("search", "cat", "--tenant", "acme"),
        ("tenant", "list"),
        ("tenant", "create", "new", "--name", HOSTILE),
        ("tenant", "create", HOSTILE),
        ("documents", "list", "--tenant", HOSTILE),
        ("jobs", "show", HOSTILE),
        ("jobs", HOSTILE),
        (HOSTILE,),
        ("publish", HOSTILE, "--tenant", "acme"),
        ("workflow", "validate", HOSTILE),
        ("workflow", "show", HOSTILE, "--tenant", "acme"),
        ("schedule", "delete", HOSTILE, "--tenant", "acme"),
        ("user", "show", HOSTILE, "--tenant", "acme"),
        ("message", "record", HOSTILE, "--user", HOSTILE, "--tenant", "acme"),
        ("ingest", HOSTILE, "--tenant", "acme"),
        ("queues", f"--{HOSTILE}"),
    ],
    ids=lambda command: (
        "-".join(word for word in command if HOSTILE not in word)[:40] or "it alone"
    ),
)
def test_no_command_sends_a_control_character(run, hostile, command):
    _, output = run(*command)

    assert output
    assert RAW.search(output) is None


def test_a_name_with_control_characters_is_shown_with_their_numbers(run, hostile):
    assert SHOWN in run("documents", "list", "--tenant", "acme")[1]


def test_a_json_document_stays_one_and_says_the_same(run, hostile):
    code, output = run("documents", "list", "--tenant", "acme", "--json")

    assert code == 0
    assert RAW.search(output) is None
    assert [one["source"] for one in json.loads(output)] == [HOSTILE]


def test_a_run_that_failed_with_control_characters_is_shown_without(run, acme, tmp_path):
    path = tmp_path / "esc.yaml"
    path.write_text(DEFINITION)
    document(run("workflow", "put", str(path), "--tenant", "acme", "--json"))
    run_id = document(run("workflow", "run", "esc", "--tenant", "acme", "--json"))["id"]
    rows('UPDATE "WorkflowRun" SET "error" = %s WHERE "id" = %s RETURNING 1', HOSTILE, run_id)

    for command in (("show", run_id), ("graph", "esc"), ("list",), ("definitions",)):
        code, output = run("workflow", *command, "--tenant", "acme")
        assert code == 0
        assert RAW.search(output) is None, command


def test_lines_and_tabs_stay():
    assert visible("a\tb\nc\r\x00ü🙂") == "a\tb\nc\\u000d\\u0000ü🙂"


def test_a_live_page_shows_colours_of_ours_alone():
    stream = io.StringIO()
    console = drawing.console(stream)
    console.print(Text.assemble(("step ", "red"), HOSTILE))

    assert RAW.search(stream.getvalue()) is None
    assert SHOWN in stream.getvalue()


@pytest.fixture
def latin(tmp_path):
    """A folder with a file whose name is Turkish in Latin-5, and one whose name is UTF-8."""
    folder = tmp_path / "library"
    folder.mkdir()
    for name, text in ((b"\xe7al\xfd\xfema.txt", "battery"), ("çay.txt".encode(), "tea")):
        (folder / os.fsdecode(name)).write_text(f"How long the {text} lasts.\n")
    return folder


def test_a_file_whose_name_is_not_utf_8_is_refused_alone(run, acme, latin):
    code, output = run("ingest", str(latin), "--tenant", "acme", "--json")
    shown = run("ingest", str(latin), "--tenant", "acme")[1]

    [told] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    by_path = {one["path"]: one for one in told["documents"]}
    refused, taken = by_path[f"{latin}/\\xe7al\\xfd\\xfema.txt"], by_path[f"{latin}/çay.txt"]
    assert code == 1
    assert (refused["status"], refused["error"]) == (
        "REFUSED",
        "name_not_utf8: rename the file to be ingested.",
    )
    assert (taken["status"], taken["error"]) == ("PENDING", None)
    assert rows('SELECT "payload"->>\'source\' FROM "Job"') == [(f"{latin}/çay.txt",)]
    assert "name_not_utf8: rename" in shown


@pytest.mark.parametrize(
    "command",
    [
        ("tenant", "create", LATIN),
        ("documents", "list", "--tenant", LATIN),
        ("jobs", "show", LATIN),
        ("ingest", f"/nowhere/{LATIN}", "--tenant", "acme"),
        ("ingest", __file__, "--title", LATIN, "--tenant", "acme"),
        ("workflow", "validate", f"/nowhere/{LATIN}"),
        ("publish", "probe", "--payload", f'{{"note": "{LATIN}"}}', "--tenant", "acme"),
        ("publish", "probe", "--key", LATIN, "--tenant", "acme"),
        ("schedule", "delete", LATIN, "--tenant", "acme"),
        ("message", "record", LATIN, "--user", "ada", "--tenant", "acme"),
        ("recall", "tea", "--user", LATIN, "--tenant", "acme"),
        ("feedback", "set", "m", "--rating", "1", "--comment", LATIN, "--tenant", "acme"),
        ("dead", "list", "--job", LATIN),
        ("audit", "tail", "--action", LATIN),
    ],
    ids=lambda command: "-".join(word for word in command if LATIN not in word)[:40],
)
def test_an_argument_that_is_not_utf_8_is_one_sentence(run, acme, command):
    code, output = run(*command)

    assert code != 0
    assert "Internal error" not in output, output
    assert "Traceback" not in output
    assert not re.search("[\ud800-\udfff]", output)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (1.63e-33, "0.0"),
        (-1e-9, "0.0"),
        (0.0, "0.0"),
        (0.00099, "0.0"),
        (0.001, "0.001"),
        (0.12345, "0.123"),
        (2.04, "2.0"),
        (-2.5, "-2.5"),
    ],
)
def test_a_number_that_has_faded_is_shown_as_nothing(capsys, number, shown):
    output.print_fields({"done/s": number})
    output.print_table(["done/s"], [[number]])

    assert capsys.readouterr().out.split() == ["done/s", shown, "done/s", shown]
