"""The definitions that are measured, as JSON."""

import json
import random
from typing import Any

PYTHON = "python"
Steps = dict[str, dict[str, Any]]


def _call(function: str, **args: object) -> dict[str, Any]:
    return {"uses": PYTHON, "with": {"function": function, "args": args}}


def _text(name: str, steps: Steps, **more: object) -> str:
    return json.dumps({"name": name, "steps": steps} | more)


def chain(name: str, steps: int) -> str:
    """No-op steps in a row."""
    made: Steps = {}
    for n in range(steps):
        made[f"s{n}"] = _call("noop", n=n) | ({"needs": [f"s{n - 1}"]} if n else {})
    return _text(name, made)


def fan(name: str, width: int) -> str:
    """One step, `width` items, one step with the results of all."""
    made = {
        "first": _call("count_up", width=width),
        "many": _call("noop", n="${{ item }}")
        | {"needs": ["first"], "for_each": "${{ steps.first.output }}"},
        "last": _call("total", parts="${{ steps.many.output }}") | {"needs": ["many"]},
    }
    return _text(name, made)


def graph(name: str, steps: int, rng: random.Random, *, window: int = 200) -> str:
    """No-op steps, each of which needs one to three of the `window` steps before it."""
    made: Steps = {}
    for n in range(steps):
        before = range(max(0, n - window), n)
        needs = rng.sample(before, min(len(before), rng.randint(1, 3)))
        made[f"s{n}"] = _call("noop", n=n) | ({"needs": [f"s{it}" for it in needs]} if n else {})
    return _text(name, made)


def clock(name: str) -> str:
    """One step that says when it began."""
    return _text(name, {"only": _call("clock")})


def watched(name: str) -> str:
    """A step before, the step whose worker will be killed, a step after."""
    kept = _call("watched", log="${{ inputs.log }}", seconds="${{ inputs.seconds }}")
    made = {
        "before": _call("noop"),
        "kept": kept | {"needs": ["before"]},
        "after": _call("noop") | {"needs": ["kept"]},
    }
    return _text(name, made)


def timers(name: str, count: int) -> str:
    """Steps that all sleep until one time."""
    sleep = {"uses": "sleep", "with": {"until": "${{ inputs.until }}"}}
    return _text(name, {f"s{n}": sleep for n in range(count)})


def diamond(name: str) -> str:
    """Eight steps, each with one row as its effect; of input n the output is 15 n + 30."""

    def step(n: str, *needs: str) -> dict[str, Any]:
        called = _call("noted", n=f"${{{{ {n} }}}}", nap_ms="${{ inputs.nap_ms }}")
        return called | {"needs": list(needs), "retry": patient}

    def of(name: str) -> str:
        return f"steps.{name}.output"

    # A restart of Postgres may meet one step several times.
    patient = {"attempts": 20, "backoff": "200ms"}
    made = {
        "a": step("inputs.n"),
        "b": step(f"{of('a')} + 1", "a"),
        "c": step(f"{of('a')} + 2", "a"),
        "d": step(f"{of('a')} + 3", "a"),
        "e": step(f"{of('b')} + {of('c')} + {of('d')}", "b", "c", "d"),
        "f": step(f"{of('e')} * 2", "e"),
        "g": step(f"{of('e')} * 3", "e"),
        "h": step(f"{of('f')} + {of('g')}", "f", "g"),
    }
    return _text(name, made, outputs={"n": "${{ steps.h.output }}"})
