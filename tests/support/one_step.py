"""One step of a kind, done as a worker does it, outside of any run."""

import json

from shared.ids import RunId, StepId, TenantId
from workers.steps.step import Step
from workers.steps.table import lookup


def do_step(kind, given, tenant_id):
    """The output of a step of this kind, given what stands under its `with`."""
    step = Step(
        tenant_id=TenantId(tenant_id),
        run_id=RunId("run"),
        step_id=StepId("step"),
        name=kind,
        workflow="w",
        attempt=1,
        item=None,
        index=None,
        traceparent=None,
        _progress=lambda *_: None,
        _transaction=lambda: None,
    )
    output = lookup(kind)(given, step)
    json.dumps(output, allow_nan=False)  # an output is JSON
    return output
