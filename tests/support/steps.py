"""Steps as a walker makes them, for functions that are called without one."""

import json
from contextlib import nullcontext
from dataclasses import fields
from typing import Any

from shared.ids import JobId, RunId, StepId, TenantId
from workers.steps.step import Step
from workers.steps.table import lookup


def make_step(**changes: Any) -> Step:
    """A step whose progress nobody hears, and whose effect has no connection."""
    known: dict[str, Any] = {it.name: None for it in fields(Step) if it.init}
    known |= {
        "tenant_id": TenantId("acme"),
        "job_id": JobId("job"),
        "fence": 1,
        "step_id": StepId("step"),
        "run_id": RunId("run"),
        "workflow": "onboarding",
        "depth": 0,
        "started_at": "2026-01-01T00:00:00Z",
        "inputs": {},
        "name": "fetch",
        "uses": "transform",
        "spec": {},
        "steps": {},
        "attempt": 1,
        "attempts_max": 3,
        "expand": False,
        "skip": False,
        "lease_s": 0.0,
        "_progress": lambda *_: None,
        "_transaction": nullcontext,
    }
    return Step(**known | changes)


def do_step(kind, given, tenant_id):
    """The output of one step of a kind, done as a worker does it, outside of any run."""
    output = lookup(kind)(given, make_step(tenant_id=TenantId(tenant_id), name=kind))
    json.dumps(output, allow_nan=False)  # an output is JSON
    return output
