"""The servers of a command: external ones by URL, or embedded ones in a folder.

Embedded servers are shared by all commands of a folder. Each command holds a shared lock on
`users` while it works; the kernel drops it when the command dies, however it dies. Starting and
stopping happen under an exclusive lock on `lock`, which is never held while a command works. The
last command, which gets `users` exclusively, stops the servers.
"""

import fcntl
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Final, NoReturn

from shared.errors import ConfigurationBroken, ServerUnavailable
from shared.servers import embedded_postgres, embedded_process, embedded_valkey
from shared.settings import Settings

LOCK_WAIT_S: Final = 120.0
_POLL_S: Final = 0.02
_users: set[IO[str]] = set()
# What the extra `embedded` installs, by the setting that makes it unnecessary.
_PACKAGES: Final = {
    "DATABASE_URL": embedded_postgres.PACKAGE,
    "REDIS_URL": embedded_valkey.PACKAGE,
}


@dataclass(frozen=True, slots=True)
class Servers:
    """The URLs of this process's servers.

    Attributes:
        database_url: For psycopg.
        redis_url: For redis-py.
        embedded: Whether both are embedded; False if one is external.
    """

    database_url: str
    redis_url: str
    embedded: bool


@contextmanager
def use(settings: Settings, *, durable: bool = True) -> Iterator[Servers]:
    """Provide servers while the block runs.

    Args:
        settings: A URL that is set is passed straight through; for one that is not set, a server
            is started in `settings.home`, or shared with the commands that run already.
        durable: False, for tests, starts Postgres without fsync.

    Yields:
        The servers. While the block runs in the main thread, SIGTERM and SIGHUP raise SystemExit,
        unless the caller handles them, so that the block cleans up.

    Raises:
        ServerUnavailable: An embedded server does not start.
        ConfigurationBroken: The home folder cannot be written, or a URL is not set and the embedded
            servers are not installed.
    """
    database_url = settings.database_url and settings.database_url.get_secret_value()
    redis_url = settings.redis_url and settings.redis_url.get_secret_value()
    if database_url and redis_url:
        yield Servers(database_url, redis_url, embedded=False)
        return
    _check_installed({"DATABASE_URL": database_url, "REDIS_URL": redis_url})
    home = _home(settings)
    process_id = os.getpid()
    with (home / "users").open("a") as users, _signals_unwind():
        _users.add(users)
        try:
            with _locked(home / "lock"):
                fcntl.flock(users, fcntl.LOCK_SH)
                servers = Servers(
                    database_url or embedded_postgres.start(home, durable=durable),
                    redis_url or embedded_valkey.start(home),
                    embedded=not (database_url or redis_url),
                )
            yield servers
        finally:
            if os.getpid() == process_id:  # a forked child that unwinds this block does not count
                _leave(home, users)
            _users.discard(users)


def _close_users() -> None:
    """Close in a forked child what its parent has locked: the lock would last as long as both."""
    for users in _users:
        users.close()


os.register_at_fork(after_in_child=_close_users)


def signing_key(settings: Settings) -> bytes:
    """Return the signing key of messages.

    Args:
        settings: With embedded servers the key is created at the first call and stored in
            `settings.home`, readable by its owner only.

    Raises:
        ConfigurationBroken: An external server is used and no key is set.
    """
    if settings.signing_key is not None:
        return settings.signing_key.get_secret_value().encode()
    if settings.database_url or settings.redis_url:
        raise ConfigurationBroken(
            "AILYDIAN_SIGNING_KEY is not set: with external servers every process needs the same "
            "secret of 32 random bytes or more, for example from `openssl rand -hex 32`."
        )
    home = _home(settings)
    path = home / "signing.key"
    with _locked(home / "lock"):
        if not path.exists():
            growing = path.with_suffix(".new")  # moved into place whole
            growing.unlink(missing_ok=True)
            growing.touch(mode=0o600)
            growing.write_text(secrets.token_hex(32))
            growing.rename(path)
    return path.read_bytes()


def _check_installed(urls: Mapping[str, object]) -> None:
    """Report all missing packages in one error."""
    unset = [name for name, url in urls.items() if not url]
    if not all(embedded_process.is_installed(_PACKAGES[name]) for name in unset):
        raise ConfigurationBroken(
            f"{' and '.join(unset)} {'are' if len(unset) > 1 else 'is'} not set and the embedded "
            "servers are not installed: set the URL of each server, or install "
            "ailydian-workers[embedded]."
        )


def _home(settings: Settings) -> Path:
    home = settings.home.resolve()
    try:
        if not (home / ".gitignore").exists():
            # As root, Postgres' own user must pass through; what is inside guards itself.
            home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            (home / ".gitignore").write_text("*\n")
    except OSError as error:
        raise ConfigurationBroken(
            f"AILYDIAN_HOME={home} is not writable: {error.strerror}."
        ) from error
    return home


def _leave(home: Path, users: IO[str]) -> None:
    with _locked(home / "lock"):
        fcntl.flock(users, fcntl.LOCK_UN)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another command still runs
        embedded_valkey.stop(home)
        embedded_postgres.stop(home)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + LOCK_WAIT_S
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServerUnavailable(
                        f"Timed out after {LOCK_WAIT_S:.0f} s: another command has locked {path}."
                    ) from None
                time.sleep(_POLL_S)
        yield


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack instead of ending the process at once."""
    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [
            number
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is signal.SIG_DFL
        ]
    for number in ours:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is _exit:
                signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
