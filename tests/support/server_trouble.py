"""A Postgres in trouble: what is written to some tables is answered as a full disk answers it."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

_TROUBLE = """
    CREATE OR REPLACE FUNCTION test_trouble() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'could not extend file "base/1/2": asked for by a test'
            USING ERRCODE = TG_ARGV[0];
    END $$;
"""


@contextmanager
def refusing(url: str, *tables: str, sqlstate: str = "53100") -> Iterator[None]:
    """Answer each row that is written to these tables with an error, while the block runs."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(_TROUBLE.encode())
        for table in tables:
            conn.execute(
                f"""CREATE TRIGGER test_trouble BEFORE INSERT OR UPDATE OR DELETE ON "{table}"
                    FOR EACH ROW EXECUTE FUNCTION test_trouble('{sqlstate}')""".encode()
            )
        try:
            yield
        finally:
            for table in tables:
                conn.execute(f'DROP TRIGGER test_trouble ON "{table}"'.encode())
