"""Passwords and keys of docker-compose.yml, made once: `make secrets`.

It needs no package. The containers' users may read the files, the owner alone their folder.
"""

import hashlib
import secrets
import sys
from pathlib import Path
from typing import Final

_BYTES: Final = 32


def write(folder: Path, environment: Path) -> None:
    """Write every secret, and for Compose the hash by which Valkey knows its password.

    Args:
        folder: Where the secrets go; it must not exist.
        environment: The file of variables that Compose reads; a line is added to it.

    Raises:
        FileExistsError: The folder is there: other secrets would not open what they have locked.
    """
    folder.mkdir(mode=0o700)
    superuser, app, migrator, redis, key = (secrets.token_hex(_BYTES) for _ in range(5))
    for name, content in {
        "postgres_password": superuser,
        "database_password": app,
        "migrator_password": migrator,
        "redis_password": redis,
        "database_url": f"postgresql://ailydian:{app}@postgres:5432/ailydian",
        "migrator_url": f"postgresql://ailydian_migrator:{migrator}@postgres:5432/ailydian",
        "redis_url": f"redis://ailydian:{redis}@redis:6379/0",
        "signing_key": key,
        "openai_api_key": "",
    }.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o644)
    with environment.open("a") as lines:
        lines.write(f"REDIS_PASSWORD_SHA256={hashlib.sha256(redis.encode()).hexdigest()}\n")


if __name__ == "__main__":
    try:
        write(Path("secrets"), Path(".env"))
    except FileExistsError:
        sys.exit("secrets/ is there already: nothing was changed.")
