"""One way around the schema, for tests.support.bypasses."""

from typing import NamedTuple


class Bypass(NamedTuple):
    """What is done, the line of `verify` that must tell it, and what it must say."""

    statement: str
    check: str
    told: str


LOGIN = "CREATE ROLE app_of_a_test LOGIN; GRANT ailydian_app TO app_of_a_test; "
SCHEMA = "CREATE SCHEMA aside; GRANT USAGE ON SCHEMA aside TO PUBLIC; "
FUNCTION = "RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1::bigint'"
EVIL = "CREATE FUNCTION aside.evil() RETURNS text LANGUAGE sql AS $$ SELECT '' $$; "
