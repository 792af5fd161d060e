"""What a tenant may try with another's runs and jobs, by each function of the engine."""

from tests.support.attacks import Attack


def _own_step(function: str, rest: str) -> Attack:
    return Attack(
        f"{function} of another tenant's job",
        f"SELECT public.ailydian_{function}('jb', 1, 'b-live/0', {rest})",
        "AL001",
    )


def _own(function: str, rest: str) -> str:
    return f"SELECT public.ailydian_{function}('ja', 1, 'a-live/0', {rest})"


def _act(call: str, state: str = "AL007") -> Attack:
    return Attack(
        f"{call.split('(', maxsplit=1)[0]} of another tenant's run",
        f"SELECT public.ailydian_{call}",
        state,
    )


_FOREIGN_WAIT = """
    INSERT INTO "WorkflowWait" ("id", "tenantId", "runId", "what", "name", "dueAt")
    VALUES ('a-live/0', 'a', 'a-live', 'run', 'b-live', now() - interval '1 s');
    UPDATE "WorkflowStep" SET "state" = 'waiting', "jobId" = NULL WHERE "id" = 'a-live/0';
"""
_FOREIGN_CHILD = """UPDATE "WorkflowRun" SET "parentStepId" = 'a-live/0' WHERE "id" = 'b-live';"""
_OLD = """
    UPDATE "WorkflowRun" SET "startedAt" = "startedAt" - interval '1 hour' WHERE "tenantId" = 'a';
"""
_FRESH = """
    INSERT INTO "WorkflowRun" ("id", "workflowId", "status", "state", "tenantId", "versionId")
    VALUES ('b-fresh', 'wb', 'RUNNING', 'running', 'b', 'vb');
"""
_START = """
    SELECT public.ailydian_start_run({id}, {version}, '{{}}', NULL, {slot}, {then}, {parent}, 0,
                                     NULL, NULL)
"""
_PARENT = """UPDATE "WorkflowRun" SET "parentStepId" = 'b-{state}/0' WHERE "id" = 'a-{state}';"""


def _start(
    identity: str = "NULL",
    *,
    version: str = "'va'",
    slot: str = "NULL",
    then: str = "NULL",
    parent: str = "NULL",
) -> str:
    return _START.format(id=identity, version=version, slot=slot, then=then, parent=parent)


_OWN_JOB_AT_FOREIGN_STEP = """
    UPDATE "Job" SET "stepId" = 'b-live/0' WHERE "id" = 'ja';
    UPDATE "WorkflowStep" SET "jobId" = 'ja' WHERE "id" = 'b-live/0';
"""

# As a version that took any id has left it.
_NAMED_AFTER_FOREIGN_RUN = """
    INSERT INTO "WorkflowRun" ("id", "workflowId", "status", "state", "tenantId", "versionId")
    VALUES ('b-live/9', 'wa', 'RUNNING', 'running', 'a', 'va');
    INSERT INTO "WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                "itemIndex", "state", "jobId")
    VALUES ('b-live/9/0', 'b-live/9', 'one', 'RUNNING', 'a', 0, -1, 'running', 'ja');
    UPDATE "Job" SET "stepId" = 'b-live/9/0' WHERE "id" = 'ja';
    INSERT INTO "WorkflowSignal" ("tenantId", "runId", "name", "payload")
    VALUES ('b', 'b-live', 'go', '"secret-of-b"');
"""

ATTACKS = [
    Attack("a run of another tenant's version", _start(version="'vb'"), "AL005"),
    Attack("a run below another tenant's step", _start(parent="'b-live/0'"), "AL007"),
    Attack(
        "the end of a run below another tenant's step",
        "SELECT public.ailydian_cancel_run('a-live', 'over')",
        before=_PARENT.format(state="live"),
    ),
    Attack(
        "a retry of a run below another tenant's step",
        "SELECT public.ailydian_retry_run('a-failed')",
        "AL008",
        before=_PARENT.format(state="failed"),
    ),
    _act("cancel_run('b-live', 'over')"),
    _act("pause_run('b-live')"),
    _act("resume_run('b-paused')"),
    _act("retry_run('b-failed')"),
    _act("skip_step('b-live', 'one')"),
    _act("fork_run('b-done', 'one', NULL)"),
    _act("signal_run('b-live', 'signal', 'go', NULL, NULL, NULL)"),
    _act("signal_run('b-live', 'signal', 'ask', NULL, NULL, NULL)"),
    _act("signal_run('b-live', 'approval', 'ask', NULL, NULL, NULL)"),
    _act("claim_receipt('jb', 1)", "AL001"),
    _act("claim_receipts(ARRAY['jb'], ARRAY[1]::bigint[])", "AL001"),
    _act("begin_step('jb', 1)", "AL001"),
    Attack(
        "hold_step of another tenant's job",
        "SELECT public.ailydian_hold_step('jb', 1, 'b-live/0')",
        "AL001",
    ),
    _own_step("finish_step", "'completed', NULL, NULL, NULL, NULL, 0"),
    _own_step("expand_step", "'[1]', 1, 0"),
    _own_step("suspend_step", "'signal', 'go', 1, NULL, NULL, 0"),
    _own_step("queue_step", "'key'"),
    _own_step("delegate_step", "'{}', 'probe', 'maintenance', 1, 3, '', 1, 0"),
    Attack(
        "an own job that stands at another tenant's step",
        "SELECT public.ailydian_begin_step('ja', 1)",
        "P0002",
        before=_OWN_JOB_AT_FOREIGN_STEP,
    ),
    *(
        Attack(
            f"{function} of an own job that stands at another tenant's step",
            f"SELECT public.ailydian_{function}('ja', 1, 'b-live/0', {rest})",
            "P0002",
            before=_OWN_JOB_AT_FOREIGN_STEP,
        )
        for function, rest in [
            ("suspend_step", "'signal', 'go', 1, NULL, NULL, 0"),
            ("queue_step", "'key'"),
        ]
    ),
    *(
        Attack(
            f"a run whose id is {identity} begins with another tenant's", _start(identity), "AL006"
        )
        for identity in (
            "'b-live/'",
            "'b-live/9'",
            "'b-live/0/9'",
            "'/b-live'",
            "''",
            "repeat('a', 65)",
        )
    ),
    *(
        Attack(
            f"{function} of a run that was named after another tenant's",
            f"SELECT public.ailydian_{function}('ja', 1, 'b-live/9/0', {rest})",
            before=_NAMED_AFTER_FOREIGN_RUN,
            then=f"""EXISTS (SELECT FROM "{table}" WHERE "runId" = 'b-live/9')""",
        )
        for function, rest, table in [
            ("suspend_step", "'signal', 'go', 1, NULL, NULL, 0", "WorkflowWait"),
            ("queue_step", "'key'", "WorkflowSlot"),
        ]
    ),
    Attack(
        "an own job that has moved on to another tenant's step",
        _own("finish_step", "'completed', NULL, NULL, NULL, NULL, 0"),
        "P0002",
        before="""UPDATE "Job" SET "stepId" = 'b-live/0', "fence" = 2 WHERE "id" = 'ja';
                  UPDATE "WorkflowStep" SET "state" = 'completed' WHERE "id" = 'a-live/0';""",
    ),
    Attack(
        "waiting for another tenant's run",
        _own("suspend_step", "'run', 'b-live', 0, now(), NULL, 0"),
        "AL007",
    ),
    Attack(
        "waiting for another tenant's run that names the step",
        _own("suspend_step", "'run', 'b-live', 0, now(), NULL, 0"),
        "AL007",
        before=_FOREIGN_CHILD,
    ),
    *(
        Attack(f"{name}, {what}", call, before=before, role=role)
        for name, before in [
            ("a wait for another tenant's run", _FOREIGN_WAIT),
            ("a wait for another tenant's run that names the step", _FOREIGN_WAIT + _FOREIGN_CHILD),
        ]
        for what, call, role in [
            ("timed out", "SELECT public.ailydian_fire_waits(10)", "ailydian_relay"),
            ("cancelled", "SELECT public.ailydian_cancel_run('a-live', 'over')", "ailydian_app"),
            ("skipped", "SELECT public.ailydian_skip_step('a-live', 'one')", "ailydian_app"),
        ]
    ),
    Attack(
        "a wait for another tenant's run that has ended",
        "SELECT public.ailydian_mend_runs('', 10)",
        before=_FOREIGN_WAIT.replace("b-live", "b-done") + _OLD,
        role="ailydian_relay",
    ),
    Attack(
        "the concurrency key of another tenant",
        _start("'a-new'", slot="'key'"),
        answer=("a-new", "running", "f"),
    ),
    Attack(
        "a place behind another tenant's run",
        _start("'a-new'", slot="'key'", then="'cancel_previous'"),
    ),
    Attack(
        "a turn after another tenant's run",
        "SELECT public.ailydian_cancel_run('a-held', 'over')",
        before="""SELECT set_config('app.tenant_id', 'a', true);"""
        + _start("'a-held'", slot="'key'")
        + ";"
        + _start("'a-next'", slot="'key'"),
    ),
    Attack(
        "taking the place of an own run only",
        _start("'a-new'", slot="'key'", then="'cancel_previous'"),
        answer=("a-new", "running", "f"),
        before="""SELECT set_config('app.tenant_id', 'a', true);"""
        + _start("'a-held'", slot="'key'"),
    ),
    Attack(
        "a node of another tenant's version",
        """INSERT INTO "WorkflowNode" ("tenantId", "versionId", "position", "name", "uses", "spec",
               "needs",
               "dependents", "reads", "listReads", "mapped", "onError", "attemptsMax")
           VALUES ('a', 'vb', 9, 'nine', 'http', '{}', 0, '{}', '{}', '{}', false, 'fail', 1)""",
        "23503",
    ),
    Attack(
        "a version of another tenant's workflow",
        """INSERT INTO "WorkflowVersion" ("tenantId", "workflowId", "version", "definition",
               "digest",
               "steps", "ends", "timeoutS") VALUES ('a', 'wb', 2, '{}', 'd', 1, 1, 0)""",
        "23503",
    ),
    Attack(
        "the lock of another tenant's run",
        "SELECT public.ailydian_cancel_run('b-fresh', 'over')",
        "AL007",
        before=_FRESH,
    ),
    Attack(
        "the weak lock of another tenant's run",
        "SELECT public.ailydian_skip_step('b-fresh', 'one')",
        "AL007",
        before=_FRESH,
    ),
    Attack(
        "a pause of another tenant",
        _own("finish_step", "'completed', NULL, NULL, NULL, NULL, 30") + " IS NOT NULL",
        before="""INSERT INTO "JobHold" ("tenantId", "heldBy") VALUES ('b', 'x');""",
        answer=True,
    ),
    Attack(
        "a run whose turn has come, behind nobody of its own",
        "SELECT public.ailydian_mend_runs('', 10)",
        before="""
            UPDATE "WorkflowRun" SET "state" = 'queued', "status" = 'PENDING',
                "concurrencyKey" = 'key' WHERE "id" = 'a-live';
            INSERT INTO "WorkflowSlot" ("tenantId", "key", "holder", "runId")
            VALUES ('a', 'key', 'a-live', 'a-live');
        """
        + _OLD,
        role="ailydian_relay",
        then="""(SELECT "state" = 'running' FROM "WorkflowRun" WHERE "id" = 'a-live')""",
    ),
    Attack(
        "a step whose turn has come, behind nobody of its own",
        "SELECT public.ailydian_mend_runs('', 10)",
        before="""
            UPDATE "WorkflowStep" SET "state" = 'waiting', "jobId" = NULL WHERE "id" = 'a-live/0';
            INSERT INTO "WorkflowWait" ("id", "tenantId", "runId", "what", "name")
            VALUES ('a-live/0', 'a', 'a-live', 'slot', 'key');
            INSERT INTO "WorkflowSlot" ("tenantId", "key", "holder", "runId")
            VALUES ('a', 'key', 'a-live/0', 'a-live');
        """
        + _OLD,
        role="ailydian_relay",
        then="""(SELECT "state" = 'ready' FROM "WorkflowStep" WHERE "id" = 'a-live/0')""",
    ),
]
