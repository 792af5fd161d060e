"""What the command line refuses before it opens any server, and what it says without one."""

import json
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner

from producers.cli import COMMANDS, main
from producers.cli.terminal import failures, values
from shared.contracts import CONTRACTS
from shared.errors import ConfigurationBroken, PayloadRefused
from tests.support.factories import environment
from tests.support.patience import patience
from tests.support.source_code import ROOT

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name):
    ran = CliRunner().invoke(main, [name, "--help"])

    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith(f"Usage: main {name}")


def test_every_subcommand_explains_itself():
    context = click.Context(main)
    groups = {name: main.get_command(context, name) for name in COMMANDS}
    pairs = [
        (name, verb)
        for name, group in groups.items()
        if isinstance(group, click.Group)
        for verb in group.commands
    ]

    assert ("dead", "replay") in pairs
    for pair in pairs:
        assert CliRunner().invoke(main, [*pair, "--help"]).exit_code == 0, pair


def _commands(command: click.Command, path: tuple[str, ...] = ()):
    """Every command that can be called, with its path."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), (*path, name))
    else:
        yield path, command


def test_every_command_takes_json():
    commands = dict(_commands(main))

    assert {("up",), ("dead", "replay"), ("schedule", "put")} <= commands.keys()
    without = {
        path
        for path, command in commands.items()
        if not any("--json" in option.opts for option in command.params)
    }
    assert without == set()


@pytest.mark.thorough
@pytest.mark.parametrize("role", ["up", "relay", "scheduler", "work", "autoscale", "web"])
def test_a_role_that_cannot_start_owes_a_document_too(role, tmp_path):
    (tmp_path / "home").write_text("a file stands here")
    code = "import sys; from producers.cli import main; main(sys.argv[1:])"

    ran = subprocess.run(
        [sys.executable, "-c", code, role, "--json"],
        capture_output=True,
        text=True,
        env={"AILYDIAN_HOME": str(tmp_path / "home")},
        check=False,
    )

    assert ran.returncode == 1
    assert "AILYDIAN_HOME" in json.loads(ran.stdout)["error"]["message"]


def test_help_imports_no_command():
    code = (
        "import sys; from producers.cli import main; main(['--help'], standalone_mode=False);"
        "print([m for m in sys.modules if m.startswith(('producers.cli.', 'psycopg', 'redis'))])"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    # All output goes through this module, which imports the standard library alone.
    assert ran.stdout.endswith("['producers.cli.terminal', 'producers.cli.terminal.visible']\n")


def test_commands_know_the_jobs_of_plugins(tmp_path, monkeypatch):
    (tmp_path / "plugin_of_a_test.py").write_text(
        "from typing import ClassVar\n"
        "from shared.contracts import Contract, register\n\n\n"
        "@register\n"
        "class Polish(Contract):\n"
        '    actor_name: ClassVar[str] = "polish"\n'
        '    queue_name: ClassVar[str] = "audit"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    with environment(AILYDIAN_PLUGINS="plugin_of_a_test"):
        listed = CliRunner().invoke(main, ["publish", "--list", "--json"])
    CONTRACTS.pop("polish", None)

    assert "polish" in {one["job"] for one in json.loads(listed.output)}


def test_a_plugin_that_is_missing_is_named():
    with environment(AILYDIAN_PLUGINS="no_such_module"):
        ran = CliRunner().invoke(main, ["config"])

    assert ran.exit_code != 0
    assert "AILYDIAN_PLUGINS names 'no_such_module'" in ran.output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("@register\nclass X: ...", "(bad.py, line 1): NameError: name 'register' is not defined."),
        ("def f(:\n", "(bad.py, line 1): SyntaxError: "),
        ("import no_such_library\n", "which imports 'no_such_library' (bad.py, line 1)"),
        ("from shared.outbox import Lease\n", "which imports 'shared.outbox' (bad.py, line 1)"),
        ("from shared.contracts import Lease\n", "(bad.py, line 1): ImportError: cannot import"),
        ("import sys\n\nsys.exit(3)\n", "(bad.py, line 3): SystemExit: 3."),
        ("raise RuntimeError\n", "(bad.py, line 1): RuntimeError: RuntimeError."),
        ("raise KeyboardInterrupt\n", "(bad.py, line 1): KeyboardInterrupt: KeyboardInterrupt."),
        ("class E(BaseException): ...\n\n\nraise E('x')\n", "(bad.py, line 4): E: x."),
        (
            "raise BaseExceptionGroup('g', [SystemExit(0)])\n",
            "(bad.py, line 1): BaseExceptionGroup",
        ),
        ("import os\n\nos._exit(0)\n", "while it is imported (bad.py, line 3): os._exit(0)."),
        ("from os import _exit\n_exit(7)\n", "while it is imported (bad.py, line 2): os._exit(7)."),
        ("import bad_too\nx = 1\n", "(bad_too.py, line 1): ImportError: cannot import name 'x'"),
        (
            "from shared.contracts import Contract\n\n\nclass Probe(Contract, queue='audit'): ...",
            "probe: shared.contracts and bad both define a job of this name",
        ),
        (
            "from shared.contracts import Contract\n\n\nclass Odd(Contract, queue='odd'): ...",
            "(bad.py, line 4): AssertionError: odd: unknown queue odd",
        ),
        (
            "from shared.contracts import Contract\n\n\nclass Odd(Contract, queue='audit'):\n"
            "    attempts_max = 0\n",
            "(bad.py, line 4): ValueError: Odd.attempts_max is 0, and must be a whole number "
            "from 1 to 1,000,000.",
        ),
        ("x = 1\n\0\n", "source code string cannot contain null"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_bad_plugin_is_one_sentence_in_every_process(tmp_path, text, sentence, as_json):
    (tmp_path / "bad.py").write_text(text)
    (tmp_path / "bad_too.py").write_text("from bad import x\n")
    more = ["--json"] if as_json else []

    ran = subprocess.run(
        [sys.executable, "-m", "producers.cli", "jobs", "list", *more],
        capture_output=True,
        text=True,
        env={"AILYDIAN_PLUGINS": "bad", "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        check=False,
    )

    assert ran.returncode == 1
    [line] = ran.stderr.splitlines()
    assert line.startswith("Error: AILYDIAN_PLUGINS names 'bad', which ")
    assert sentence in line
    if as_json:
        assert json.loads(ran.stdout)["error"]["code"] == "configuration"
    else:
        assert ran.stdout == ""


HANGS = {
    "sleep": "import time\n\ntime.sleep(3_600)\n",
    "loop": "while True:\n    pass\n",
    "lock": "import threading\n\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n",
    "swallow": (
        "import time\n\nfor _ in range(2):\n    try:\n        time.sleep(3_600)\n"
        "    except BaseException:\n        pass\ntime.sleep(3_600)\n"
    ),
}


@pytest.mark.parametrize("how", HANGS)
def test_a_plugin_that_hangs_while_it_is_imported_is_named(tmp_path, monkeypatch, how):
    (tmp_path / f"hangs_{how}.py").write_text(HANGS[how])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("shared.import_guard.IMPORT_S_MAX", 0.2)
    timer = signal.getitimer(signal.ITIMER_REAL)

    with environment(AILYDIAN_PLUGINS=f"hangs_{how}"):
        ran = CliRunner().invoke(main, ["config"])

    assert ran.exit_code == 1
    assert (
        f"'hangs_{how}', whose import was stopped after 0.2 s (hangs_{how}.py, line" in ran.output
    )
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (timer[0] > 0)


def test_a_plugin_that_is_stuck_in_c_or_crashes_there_shows_its_line(tmp_path):
    for name, text in [
        ("crashes", "import ctypes\nctypes.string_at(0)\n"),
        ("stuck", "x = 1\nsum(range(10**13))\n"),
    ]:
        (tmp_path / f"{name}.py").write_text(text)
        start = "from shared import import_guard as g; g.IMPORT_S_MAX = g.HELD_S = 0.2; "
        start = start if name == "stuck" else ""
        ran = subprocess.run(
            [sys.executable, "-c", f"{start}from producers.cli import main; main(['config'])"],
            capture_output=True,
            text=True,
            env={"AILYDIAN_PLUGINS": name, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
            check=False,
        )

        assert ran.returncode != 0
        assert f'{name}.py", line 2 in <module>' in ran.stderr


def test_a_plugin_may_end_its_process_later(tmp_path):
    (tmp_path / "leaves.py").write_text("from os import _exit\n")
    (tmp_path / "use.py").write_text(
        "from shared import plugins\nplugins.load()\nimport leaves\nleaves._exit(7)\n"
    )

    ran = subprocess.run(
        [sys.executable, "use.py"],
        cwd=tmp_path,
        env={"AILYDIAN_PLUGINS": "leaves", "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        check=False,
    )

    assert ran.returncode == 7


def test_unknown_commands_and_options_end_2():
    assert CliRunner().invoke(main, ["nonsense"]).exit_code == 2
    assert CliRunner().invoke(main, ["jobs", "list", "--nonsense"]).exit_code == 2
    assert CliRunner().invoke(main, ["pause", "no_such_queue"]).exit_code == 2
    assert CliRunner().invoke(main, ["search", "--tenant", "t"]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["tenants"], "tenant"),
        (["job", "list"], "jobs"),
        (["statsu"], "status"),
        (["jobs", "lst"], "list"),
        (["workflow", "validated"], "validate"),
    ],
)
def test_an_unknown_command_is_refused_with_the_one_that_may_be_meant(words, meant):
    ran = CliRunner().invoke(main, words)

    assert ran.exit_code == 2
    assert re.search(rf"Did you mean.*'{meant}'", ran.output)


def test_a_very_long_unknown_command_is_refused_at_once():
    began = time.monotonic()

    assert CliRunner().invoke(main, ["tenant" * 20_000]).exit_code == 2
    assert time.monotonic() - began < patience(2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["publish", "no_such_job", "--tenant", "t"], "Unknown job 'no_such_job'"),
        (["publish", "probe", "--tenant", "t", "--payload", '{"x": 1}'], "probe: x:"),
        (["publish", "probe", "--tenant", "t", "--payload", "[]"], "must be a JSON object"),
        (["publish", "probe"], "Give a job and --tenant"),
        (["ingest", "/nowhere/at/all", "--tenant", "t"], "no such file or folder"),
    ],
)
def test_what_is_refused_before_a_server_is_asked_says_why(arguments, sentence):
    ran = CliRunner().invoke(main, arguments)

    assert ran.exit_code == 2
    assert sentence in ran.output
    assert "Traceback" not in ran.output


@pytest.mark.thorough
def test_who_means_every_dead_job_says_so(tmp_path):
    for verb in ("replay", "discard"):
        with environment(AILYDIAN_HOME=str(tmp_path)):
            ran = CliRunner().invoke(main, ["dead", verb])

        assert ran.exit_code == 2
        assert "--all" in ran.output


def test_publish_lists_every_contract_with_its_schema():
    ran = CliRunner().invoke(main, ["publish", "--list", "--json"])

    rows = {row["job"]: row for row in json.loads(ran.stdout)}
    assert rows.keys() == CONTRACTS.keys()
    assert rows["probe"]["queue"] == "maintenance"
    assert rows["probe"]["schema"]["properties"].keys() == {"n", "mode", "note"}


@pytest.mark.thorough
def test_settings_are_shown_with_their_secrets_masked():
    code = "from producers.cli import main; main(['config', '--json'])"
    environment = {
        "OPENAI_API_KEY": "sk-secret-1",
        "DATABASE_URL": "postgresql://ada:secret-2@db:5432/x",
        "AILYDIAN_SIGNING_KEY": "secret-3",
    }

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )

    shown = json.loads(ran.stdout)
    assert "secret" not in ran.stdout
    assert shown["OPENAI_API_KEY"] == values.MASK
    assert shown["DATABASE_URL"] == f"postgresql://ada:{values.MASK}@db:5432/x"
    assert shown["AILYDIAN_THREADS"] == 8


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1.5h", 5_400), ("500ms", 0.5), ("2d", 172_800), ("7", 7)]
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert values.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1y", "1e9s", "367d", "1s 2s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"duration|at most a year"):
        values.seconds(text)


def test_a_moment_is_an_age_or_a_date_in_utc():
    assert values.moment("2h", NOW) == NOW - timedelta(hours=2)
    assert values.moment("2026-11-01", NOW) == datetime(2026, 11, 1, tzinfo=UTC)
    assert values.moment("2026-11-01T12:00+03:00", NOW) == datetime(2026, 11, 1, 9, tzinfo=UTC)
    with pytest.raises(ValueError, match="invalid time"):
        values.moment("yesterday", NOW)


def test_rates_are_events_a_second():
    assert values.per_second("10/s") == 10
    assert values.per_second("90/m") == 1.5
    for text in ("0/s", "fast", "-1", "1/h"):
        with pytest.raises(ValueError, match="invalid rate"):
            values.per_second(text)


def test_payloads_come_from_files_and_only_objects_pass(tmp_path):
    path = tmp_path / "payload.json"
    path.write_text('{"n": 1}')

    assert values.json_object(f"@{path}") == {"n": 1}
    for text in ("[]", "{", f"@{tmp_path}/missing.json", "[" * 100_000):
        with pytest.raises(ValueError, match=r"JSON|cannot be read"):
            values.json_object(text)


def test_the_exit_code_says_whose_mistake_it_was():
    usage = failures.reported(PayloadRefused("No."), as_json=False)
    failed = failures.reported(ConfigurationBroken("Broken."), as_json=False)
    bug = failures.reported(KeyError("oops"), as_json=False)

    assert (usage.exit_code, failed.exit_code, bug.exit_code) == (2, 1, 1)
    assert "Internal error" in bug.message
