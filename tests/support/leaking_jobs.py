"""Jobs that try to tell what they should not: a plugin for the tests of logs and traces."""

import logging
import warnings
from typing import ClassVar

import structlog
from pydantic import BaseModel

from shared import db
from shared.contracts import Contract
from shared.db import Role
from shared.errors import PermanentError
from shared.ledger.outbox import Lease, effect, publish
from workers.process.broker import actor

log = structlog.get_logger()


class Leak(Contract, queue="audit"):
    """Fails as `how` says, with a secret in what it raises or logs."""

    attempts_max: ClassVar[int] = 1
    how: str
    secret: str = ""


class Form(BaseModel):
    age: int


@actor(Leak)
def leak(job: Leak, lease: Lease) -> None:
    """Raise, log or publish."""
    match job.how:
        case "pydantic":
            Form.model_validate({"age": job.secret})
        case "number":
            int(job.secret)
        case "postgres":
            with db.transaction(lease.tenant_id) as conn:
                conn.execute("SELECT %s::int", [job.secret])
        case "logs":
            _log(job.secret)
        case "follow":
            log.info("leak.followed")
            with effect(lease) as conn:
                publish(conn, Leak(how="quiet"))
        case "quiet":
            log.info("leak.stayed_quiet")
        case _:
            _raise(job.how, job.secret)


def _raise(how: str, secret: str) -> None:
    match how:
        case "message":
            raise ValueError(f"could not send {secret} to the other side")
        case "arguments":
            raise PermanentError("refused", {"sent": [secret]})
        case "cause":
            raise PermanentError("the cause knows it") from KeyError(secret)
        case "group":
            error = ValueError("one of several")
            error.add_note(f"noted: {secret}")
            raise ExceptionGroup("several", [error, RuntimeError(secret)])


def _log(secret: str) -> None:
    log.warning("leak.logged", text=f"it is {secret}", nested={"deep": [(secret,)]})
    log.warning("leak.named", password="plain-canary", headers={"Authorization": "plain-canary"})
    logging.getLogger("psycopg").warning("a library wrote %s", secret)
    logging.getLogger("a.library").error("badly formatted %d", secret)
    warnings.warn(f"beware of {secret}", stacklevel=1)
    try:
        with db.transaction(None, role=Role.RELAY) as conn:
            conn.execute(
                """DO $$ BEGIN RAISE EXCEPTION USING
                   MESSAGE = 'refused', DETAIL = 'Key (name)=(plain-canary) exists.'; END $$"""
            )
    except Exception as error:
        log.exception("leak.refused", error=error)
