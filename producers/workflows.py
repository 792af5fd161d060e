"""Workflows, one verb per business fact: put, start."""

from collections.abc import Mapping
from typing import Any

from shared.db import Connection
from shared.ids import RunId
from shared.workflow import runs
from shared.workflow.reading import read
from shared.workflow.runs import Put


def put(conn: Connection, text: str, *, source: str = "workflow") -> Put:
    """Read a definition and keep it as the newest version of the tenant's workflow of its name."""
    return runs.put(conn, read(text, source=source))


def start(
    conn: Connection,
    name: str,
    given: Mapping[str, Any],
    *,
    key: str | None = None,
    version: int | None = None,
) -> RunId:
    """Start a run; its id."""
    return runs.start(conn, name, given, key=key, version=version).id
