"""Embedded servers: shared by commands that come, go and die as they like."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from shared.errors import ConfigurationBroken
from shared.servers import embedded
from shared.settings import Settings

# A command that uses the servers until its standard input closes.
COMMAND = """
import dataclasses, json, pathlib, sys
from shared.servers import embedded
from shared.settings import Settings

with embedded.use(Settings(home=pathlib.Path(sys.argv[1]))) as servers:
    print(json.dumps(dataclasses.asdict(servers)), flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).parents[3]
Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, since sockets live in it; nothing runs there afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="aly-"))
    yield folder / "home"
    for process in _running(folder):
        process.kill()
    shutil.rmtree(folder)


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts commands on `home`; those still alive at the end are killed."""
    with contextlib.ExitStack() as stack:

        def begin() -> subprocess.Popen[str]:
            command = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", COMMAND, str(home)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            stack.enter_context(command)
            stack.callback(command.kill)
            return command

        yield begin


def test_commands_that_start_at_once_share_one_pair_of_servers(home: Path, start: Start):
    commands = [start() for _ in range(4)]

    answers = [_answer(command) for command in commands]

    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["embedded"] is True
    assert sorted(_names(home)) == ["postgres", "valkey-server"]


def test_the_last_command_that_leaves_stops_the_servers(home: Path, start: Start):
    first, second = start(), start()
    _answer(first)
    urls = _answer(second)

    first.communicate()
    while_second_works = _count(urls)
    second.communicate()

    assert while_second_works == 1
    assert _names(home) == []


def test_what_was_written_is_there_for_the_next_command(home: Path):
    settings = Settings(home=home)
    with embedded.use(settings) as servers:
        _count(_urls(servers))

    with embedded.use(settings) as servers:
        count = _count(_urls(servers))

    assert count == 2


def test_postgres_is_durable_keeps_utc_and_listens_on_no_port(home: Path):
    with (
        embedded.use(Settings(home=home)) as servers,
        psycopg.connect(servers.database_url) as conn,
    ):
        shown = {
            name: conn.execute("SELECT current_setting(%s)", [name]).fetchone()[0]
            for name in ("fsync", "TimeZone", "listen_addresses", "max_connections")
        }

    assert shown == {
        "fsync": "on",
        "TimeZone": "UTC",
        "listen_addresses": "",
        "max_connections": "200",
    }


def test_servers_left_by_a_killed_command_are_adopted_and_then_stopped(home: Path, start: Start):
    killed = start()
    _answer(killed)
    killed.kill()
    killed.wait()
    left = {process.pid for process in _running(home)}

    with embedded.use(Settings(home=home)) as servers:
        adopted = {process.pid for process in _running(home)}
        count = _count(_urls(servers))

    assert adopted == left
    assert count == 1
    assert _names(home) == []


@pytest.mark.parametrize(
    "victims", [["postgres"], ["valkey-server"], ["postgres", "valkey-server"]]
)
def test_servers_that_were_killed_come_back_with_their_rows(
    home: Path, start: Start, victims: list[str]
):
    killed = start()
    _count(_answer(killed))
    killed.kill()
    killed.wait()
    for process in _running(home):
        if process.name() in victims:
            process.kill()

    with embedded.use(Settings(home=home)) as servers:
        count = _count(_urls(servers))

    assert count == 2


def test_a_recycled_process_id_in_the_pid_files_deceives_nobody(home: Path):
    with embedded.use(Settings(home=home)) as servers:
        recorded = (home / "postgres" / "postmaster.pid").read_text().splitlines()[1:]
    (home / "postgres" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *recorded]))
    (home / "valkey" / "pid").write_text(str(os.getpid()))

    with embedded.use(Settings(home=home)) as servers:
        count = _count(_urls(servers))

    assert count == 1


def test_a_server_without_its_socket_is_replaced_not_doubled(home: Path, start: Start, monkeypatch):
    killed = start()
    _answer(killed)
    killed.kill()
    killed.wait()
    (home / "postgres" / ".s.PGSQL.5432").unlink()
    (home / "valkey" / "socket").unlink()
    monkeypatch.setattr("shared.servers.embedded_valkey.ADOPT_S", 0.1)

    with embedded.use(Settings(home=home)) as servers:
        count = _count(_urls(servers))
        names = _names(home)

    assert count == 1
    assert sorted(names) == ["postgres", "valkey-server"]


def test_a_damaged_valkey_log_is_set_aside(home: Path):
    with embedded.use(Settings(home=home)) as servers:
        _count(_urls(servers))
    for log in (home / "valkey" / "appendonlydir").glob("*.incr.aof"):
        log.write_bytes(b"*not a command\r\n" * 10)

    with (
        embedded.use(Settings(home=home)) as servers,
        redis.Redis.from_url(servers.redis_url) as client,
    ):
        keys = client.keys()

    assert keys == []
    assert (home / "valkey" / "damaged").is_dir()


def test_a_half_made_cluster_is_made_again(home: Path):
    (home / "postgres").mkdir(parents=True)
    (home / "postgres.new").mkdir()
    (home / "postgres.new" / "PG_VERSION").write_text("18")

    with embedded.use(Settings(home=home)) as servers:
        count = _count(_urls(servers))

    assert count == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_stops_the_servers(
    home: Path, start: Start, number: signal.Signals
):
    command = start()
    _answer(command)

    command.send_signal(number)

    assert command.wait() == 128 + number
    assert _names(home) == []


def test_a_home_too_deep_for_a_socket_gets_short_sockets_and_gives_them_back(home: Path):
    deep = home / ("deep-" * 20) / 'şişli klasörü $HOME "x"'
    with embedded.use(Settings(home=deep)) as servers:
        count = _count(_urls(servers))
        sockets = Path(redis.Redis.from_url(servers.redis_url).get_connection_kwargs()["path"])

    assert count == 1
    assert not sockets.parent.exists()


def test_a_home_below_a_private_folder_can_be_used(home: Path):
    home.parent.chmod(0o700)

    with embedded.use(Settings(home=home)) as servers:
        count = _count(_urls(servers))

    assert count == 1
    assert stat.S_IMODE(home.parent.stat().st_mode) & 0o066 == 0


def test_real_servers_pass_straight_through(home: Path):
    settings = Settings(home=home, database_url="postgresql://there", redis_url="redis://there")

    with embedded.use(settings) as servers:
        pass

    assert servers == embedded.Servers("postgresql://there", "redis://there", embedded=False)
    assert not home.exists()


def test_a_real_database_beside_an_embedded_redis_starts_no_postgres(home: Path):
    with embedded.use(Settings(home=home, database_url="postgresql://there")) as servers:
        names = _names(home)

    assert servers.database_url == "postgresql://there"
    assert servers.embedded is False
    assert names == ["valkey-server"]


def test_the_signing_key_is_made_once_for_its_owner_alone(home: Path):
    keys = {embedded.signing_key(Settings(home=home)) for _ in range(2)}

    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert stat.S_IMODE((home / "signing.key").stat().st_mode) == 0o600


def test_a_signing_key_that_is_set_is_the_one(home: Path):
    assert embedded.signing_key(Settings(home=home, signing_key="a secret")) == b"a secret"


def test_real_servers_need_a_signing_key(home: Path):
    with pytest.raises(ConfigurationBroken, match="AILYDIAN_SIGNING_KEY is not set"):
        embedded.signing_key(Settings(home=home, database_url="postgresql://there"))


def test_the_home_keeps_itself_out_of_git(home: Path):
    embedded.signing_key(Settings(home=home))

    assert (home / ".gitignore").read_text() == "*\n"


def test_a_home_that_cannot_be_made_is_a_clear_error(home: Path):
    home.write_text("a file stands here")

    with (
        pytest.raises(ConfigurationBroken, match=r"AILYDIAN_HOME=.* is not writable"),
        embedded.use(Settings(home=home)),
    ):
        pass


def _answer(command: subprocess.Popen[str]) -> dict:
    return json.loads(command.stdout.readline())


def _urls(servers: embedded.Servers) -> dict:
    return {"database_url": servers.database_url, "redis_url": servers.redis_url}


def _count(urls: dict) -> int:
    """How often this was asked of this Postgres; Redis must answer too."""
    with redis.Redis.from_url(urls["redis_url"]) as client:
        assert client.ping()
    with psycopg.connect(urls["database_url"]) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS seen (at timestamptz)")
        conn.execute("INSERT INTO seen VALUES (now())")
        return conn.execute("SELECT count(*) FROM seen").fetchone()[0]


def _running(folder: Path) -> list[psutil.Process]:
    """Living server processes at work below the folder, without Postgres' own children."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                found.append((process, process.ppid()))
    ids = {process.pid for process, _ in found}
    return [process for process, parent in found if parent not in ids]


def _names(folder: Path) -> list[str]:
    return [process.name() for process in _running(folder)]
