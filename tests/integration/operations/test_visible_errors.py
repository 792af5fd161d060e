"""No error of Postgres's side carries control characters of a stranger to a terminal or a log."""

import psycopg
import pytest

from shared import db
from shared.db import Role
from tests.support.factories import make_tenant
from tests.support.workflow_by_hand import chain, start

EVIL = "\x1b[2J\x07\x9b31m\x7f\n\u202eend"
SHOWN = "?[2J??31m???end"

STATEMENTS = {
    "job": """INSERT INTO "Job" ("job") VALUES (%(evil)s)""",
    "tenant": """INSERT INTO "Job" ("job", "queue", "tenantId")
                 VALUES ('probe', 'audit', %(evil)s)""",
    "queue": """INSERT INTO "Job" ("job", "queue") VALUES ('x', %(evil)s)""",
    "run": "SELECT ailydian_cancel_run(%(evil)s, 'me')",
    "step": "SELECT ailydian_skip_step(%(run)s, %(evil)s)",
    "fork": "SELECT ailydian_fork_run(%(run)s, %(evil)s, NULL)",
    "approval": "SELECT ailydian_signal_run(%(run)s, 'approval', %(evil)s, NULL, '{}', 'me')",
}


@pytest.mark.parametrize("what", STATEMENTS)
def test_an_error_that_quotes_a_stranger_shows_no_control_characters(pool, what):
    tenant = make_tenant("a")
    run_id, _ = start(tenant, chain(1))
    if what == "fork":  # of a run that has ended
        with db.transaction(tenant) as conn:
            conn.execute("SELECT ailydian_cancel_run(%s, 'me')", [run_id])
    role = Role.RELAY if what == "tenant" else Role.APP

    with (
        pytest.raises(psycopg.Error) as refused,
        db.transaction(None if what == "tenant" else tenant, role=role) as conn,
    ):
        conn.execute(STATEMENTS[what].encode(), {"evil": EVIL, "run": run_id})

    message = refused.value.diag.message_primary
    assert SHOWN in message or "\\u001b[2J\\u0007?31m?\\n?end" in message
    assert message.isprintable()
