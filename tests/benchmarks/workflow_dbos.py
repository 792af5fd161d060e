"""The peer: DBOS, run by an interpreter of its own; it imports nothing of ours.

`python workflow_dbos.py driver URL` does what it is told, one JSON line a task, and answers with
one JSON line: workflows in its own process, and filling queues. `... worker URL` takes workflows
from the queue `drain`, as many at once as it has slots, until its input ends.

Where a choice had to be made it is the one that made DBOS faster on this machine: 8 slots, a queue
polled every 10 ms, no output of its logger.
"""

import asyncio
import json
import sys
import time

from dbos import DBOS, SetWorkflowID

SLOTS = 8
POLL_S = 0.01
DRAIN, HELD = "drain", "held"


@DBOS.step()
def noop(n):
    return n


@DBOS.step()
async def noop_async(n):
    return n


@DBOS.workflow()
def chain(steps):
    """Steps one after the other. Returns when each ended, seconds."""
    ended = []
    for n in range(steps):
        noop(n)
        ended.append(time.perf_counter())
    return ended


@DBOS.workflow()
def linear(steps):
    """The same, without the notes."""
    for n in range(steps):
        noop(n)


@DBOS.workflow()
async def fan(width):
    """One step, then `width` at once, then one that has their results."""
    first = await noop_async(0)
    parts = await asyncio.gather(*(noop_async(first + n) for n in range(width)))
    return await noop_async(sum(parts))


@DBOS.workflow()
def child(n):
    return noop(n)


@DBOS.workflow()
def fan_of_children(width):
    """One step, then `width` child workflows by the queue, then one step with their results."""
    first = noop(0)
    handles = [DBOS.enqueue_workflow(DRAIN, child, first + n) for n in range(width)]
    return noop(sum(handle.get_result() for handle in handles))


def timed(do):
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def do_linear(task):
    return {"seconds": [timed(lambda: linear(task["steps"])) for _ in range(task["runs"])]}


def do_chain(task):
    began = time.perf_counter()
    ended = chain(task["steps"])
    tenth = task["steps"] // 10
    return {
        "seconds": ended[-1] - began,
        "first_tenth": ended[tenth - 1] - began,
        "last_tenth": ended[-1] - ended[-tenth - 1],
    }


def do_fan(task):
    async def run():
        began = time.perf_counter()
        total = await fan(task["width"])
        took = time.perf_counter() - began
        assert total == sum(range(task["width"])), "not the sum of all steps"
        return took

    return {"seconds": asyncio.run(run())}


def do_children(task):
    return {"seconds": timed(lambda: fan_of_children(task["width"]))}


def do_enqueue(task):
    """Fill the queue that nobody listens to; one UPDATE will hand all of it over."""
    for n in range(task["runs"]):
        with SetWorkflowID(f"{task['name']}-{n}"):
            DBOS.enqueue_workflow(HELD, linear, task["steps"])
    return {}


TASKS = {
    "linear": do_linear,
    "chain": do_chain,
    "fan": do_fan,
    "children": do_children,
    "enqueue": do_enqueue,
}


def tell(answer):
    print(json.dumps(answer), flush=True)


def main():
    role, url, name = sys.argv[1:]
    config = {
        "name": "bench",
        "system_database_url": url,
        "executor_id": name,
        "application_version": "1",
        "log_level": "CRITICAL",
        "sys_db_pool_size": 20,
    }
    DBOS(config=config)
    DBOS.listen_queues([DRAIN] if role == "worker" else [])
    DBOS.launch()
    for queue in (DRAIN, HELD):
        DBOS.register_queue(queue, worker_concurrency=SLOTS, polling_interval_sec=POLL_S)
    tell({"ready": True})
    for line in sys.stdin:
        task = json.loads(line)
        tell(TASKS[task.pop("do")](task))
    DBOS.destroy()


if __name__ == "__main__":
    main()
