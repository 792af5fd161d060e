"""Timestamps of Postgres that Python cannot hold, such as `infinity`: read as the nearest it can.

Anyone who can write a row can date it so. psycopg raises for such a value, and one row would
fail each command that reads its table.
"""

from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

OIDS: Final = (1184, 1114)
FIRST: Final = datetime.min.replace(tzinfo=UTC)
LAST: Final = datetime.max.replace(tzinfo=UTC)
_TIMESTAMPTZ: Final = OIDS[0]


class _Clamping(Loader):
    """psycopg's own loader, compiled where it is, and what to read where that raises."""

    format = Format.TEXT

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        library = psycopg.adapters.get_loader(oid, self.format)
        assert library is not None, "psycopg reads timestamps"
        self._load = library(oid, context).load

    def load(self, data: Buffer) -> datetime:
        try:
            found: datetime = self._load(data)
        except psycopg.DataError:
            nearest = FIRST if self._is_before(bytes(data)) else LAST
            return nearest if self.oid == _TIMESTAMPTZ else nearest.replace(tzinfo=None)
        return found

    def _is_before(self, raw: bytes) -> bool:
        if self.format is Format.BINARY:
            return int.from_bytes(raw, signed=True) < 0
        return raw.startswith(b"-") or raw.endswith(b"BC")


class _ClampingBinary(_Clamping):
    format = Format.BINARY


def clamp(context: AdaptContext) -> None:
    """Let a connection read timestamps out of range as the first or last moment of Python."""
    for oid in OIDS:
        context.adapters.register_loader(oid, _Clamping)
        context.adapters.register_loader(oid, _ClampingBinary)
