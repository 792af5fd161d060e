"""Check a definition beyond its shape: names that exist, no circular needs, valid expressions.

Nothing here recurses, and what is looked up is looked up in sets: there may be 100,000 steps.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from shared import field_errors
from shared.errors import ExpressionRefused
from shared.workflow.definition import Definition, StepSpec
from shared.workflow.durations import seconds
from shared.workflow.expressions.evaluation import (
    Expression,
    compile_expression,
    holes,
    is_one_expression,
)
from shared.workflow.input_schema import schema_faults
from shared.workflow.kinds import StepKind, kinds
from shared.workflow.limits import BACKOFF_MAX_S, ITEMS_MAX, STEP_TIMEOUT_MAX_S, WAIT_MAX_S
from shared.workflow.ordering import circle, ordered, shown, unneeded

Path = tuple[str, ...]
SHOWN_CHARS_MAX: Final = 400
# For "did you mean": a comparison of two long names takes 0.1 ms.
COMPARED_MAX: Final = 300
COMPARED_CHARS_MAX: Final = 100
_WAITING: Final = frozenset({"sleep", "signal", "approval", "workflow"})
_ITEM_NAMES: Final = frozenset({"item", "index"})
# Blocked whatever an operator allows: see shared/egress/targets.py for the whole rule.
_NEVER_FETCHED: Final = re.compile(r"(?i)(?!https?://)|https?://(?:169\.254\.|\[fe80:)")


@dataclass(frozen=True, slots=True)
class Fault:
    """One error, at a path such as ("steps", "fetch", "needs").

    Attributes:
        path: Where it is.
        rule: Its name.
        message: What is wrong, without the full stop.
        unknown: A name that does not exist, and those that do: only what is shown is compared.
    """

    path: Path
    rule: str
    message: str
    unknown: tuple[str, Iterable[str]] | None = None

    def sentence(self, *, compared: bool = True) -> str:
        """The message, shortened; `compared` adds the known name that is nearest."""
        near = nearest(*self.unknown) if self.unknown is not None and compared else ""
        return f"{shortened(self.message)}{near}."


@dataclass(slots=True)
class _Check:
    definition: Definition
    known: dict[str, StepKind]
    faults: list[Fault] = field(default_factory=list)
    needs: dict[str, list[str]] = field(default_factory=dict)
    reads: list[tuple[Path, str, str]] = field(default_factory=list)

    def say(
        self,
        path: Path,
        rule: str,
        message: str,
        unknown: tuple[str, Iterable[str]] | None = None,
    ) -> None:
        self.faults.append(Fault(path, rule, message, unknown))


def faults_of(definition: Definition) -> list[Fault]:
    """All errors of a definition of the right shape."""
    check = _Check(definition, kinds())
    _inputs(check)
    if definition.timeout is not None:
        _duration(check, ("timeout",), definition.timeout, (1.0, WAIT_MAX_S))
    for name, step in definition.steps.items():
        check.needs[name] = _needs(check, name, step)
    order = ordered(check.needs)
    if len(order) < len(check.needs):
        path = circle(check.needs, order)
        check.say(
            ("steps", path[0], "needs"),
            "cycle",
            f"the steps need each other in a cycle: {shown(path)}",
        )
        return check.faults
    for name, step in definition.steps.items():
        _step(check, name, step)
    _run_expressions(check)
    _reads(check, order)
    return check.faults


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` where a known name is near, else nothing."""
    if len(name) > COMPARED_CHARS_MAX:
        return ""
    alike = nsmallest(COMPARED_MAX, known, key=lambda one: abs(len(one) - len(name)))
    near = difflib.get_close_matches(name, alike, n=1)
    return f'; did you mean "{near[0]}"' if near else ""


def shortened(text: str) -> str:
    """A text of at most `SHOWN_CHARS_MAX` characters: its begin and its end."""
    if len(text) <= SHOWN_CHARS_MAX:
        return text
    return f"{text[: SHOWN_CHARS_MAX - 104]} ... {text[-99:]}"


def _inputs(check: _Check) -> None:
    for path, message in schema_faults(check.definition.inputs or {}):
        check.say(("inputs", *path), "bad_schema", message)


def _needs(check: _Check, name: str, step: StepSpec) -> list[str]:
    wanted = [step.needs] if isinstance(step.needs, str) else step.needs
    steps = check.definition.steps
    known = [needed for needed in dict.fromkeys(wanted) if needed in steps]
    if len(known) == len(wanted):
        return known
    path = ("steps", name, "needs")
    for needed, times in Counter(wanted).items():
        if times > 1:
            check.say(path, "duplicate", f"{needed!r} is listed {times} times")
        if needed not in steps:
            check.say(path, "unknown_step", f"there is no step {needed!r}", (needed, steps))
    return known


def _step(check: _Check, name: str, step: StepSpec) -> None:
    path = ("steps", name)
    kind = step.uses or ("signal" if step.wait_for is not None else "sleep")
    if step.uses is not None:
        _kind(check, path, step.uses, step.with_)
    elif step.with_:
        check.say((*path, "with"), "unknown_field", "a step that only waits must not have `with`")
    if step.compensate is not None:
        _kind(check, (*path, "compensate"), step.compensate.uses, step.compensate.with_)
    if step.sleep is not None:
        _duration(check, (*path, "sleep"), step.sleep, (0.0, WAIT_MAX_S))
    if step.timeout is not None:
        most = WAIT_MAX_S if kind in _WAITING else STEP_TIMEOUT_MAX_S
        _duration(check, (*path, "timeout"), step.timeout, (1.0, most))
    if step.retry is not None and step.retry.backoff is not None:
        _duration(check, (*path, "retry", "backoff"), step.retry.backoff, (0.0, BACKOFF_MAX_S))
    if isinstance(step.for_each, list) and len(step.for_each) > ITEMS_MAX:
        check.say((*path, "for_each"), "too_many_items", f"at most {ITEMS_MAX:,}")
    if step.max_parallel is not None and step.for_each is None:
        check.say(
            (*path, "max_parallel"),
            "without_for_each",
            "max_parallel needs for_each: it limits the items that run at once",
        )
    _own_name(check, name, step)
    _expressions(check, name, step)


def _own_name(check: _Check, name: str, step: StepSpec) -> None:
    """The plan adds steps of its own, whose names must not be taken."""
    steps = check.definition.steps
    if name == "outputs" and check.definition.outputs is not None:
        check.say(("steps", name), "bad_name", "`outputs` is reserved for the run's output")
    if step.compensate is not None and f"undo_{name}" in steps:
        check.say(
            ("steps", f"undo_{name}"),
            "bad_name",
            f"reserved for the compensation of the step {name!r}",
        )


def _duration(check: _Check, path: Path, text: str | float, limits: tuple[float, float]) -> None:
    least, most = limits
    try:
        found = seconds(text)
    except ValueError as error:
        check.say(path, "bad_duration", str(error).rstrip("."))
        return
    if not least <= found <= most:
        check.say(path, "out_of_range", f"{text} must be between {least:g} and {most:g} seconds")


def _kind(check: _Check, path: Path, uses: str, given: Mapping[str, Any]) -> None:
    kind = check.known.get(uses)
    if kind is None:
        missing = f"no step kind is named {uses!r}"
        check.say((*path, "uses"), "unknown_kind", missing, (uses, check.known))
        return
    try:
        for fault in _with_faults(kind.fields, given):
            where = (*path, "with", *fault.path)
            check.say(where, fault.rule, f"{uses}: {fault.message}", fault.unknown)
    except ExpressionRefused:
        return  # told with the expressions
    _given(check, path, uses, given)


def _given(check: _Check, path: Path, uses: str, given: Mapping[str, Any]) -> None:
    """Check values of our own kinds that would otherwise fail only at run time."""
    url, waits = str(given.get("url", "")).strip(), given.get("for")
    if uses == "http" and not url.startswith("${{") and _NEVER_FETCHED.match(url):
        check.say((*path, "with", "url"), "bad_address", "not an http address of a public host")
    elif uses == "sleep" and isinstance(waits, str | int | float) and "${{" not in str(waits):
        _duration(check, (*path, "with", "for"), waits, (0.0, WAIT_MAX_S))
    elif uses == "workflow" and given.get("name") == check.definition.name:
        check.say((*path, "with", "name"), "runs_itself", "a workflow must not run itself")


def _with_faults(fields: type[BaseModel], given: Mapping[str, Any]) -> Iterator[Fault]:
    """Errors against a kind's model that are known before expressions are evaluated."""
    try:
        fields.model_validate(given)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            where = tuple(map(str, detail["loc"]))
            if detail["type"] == "missing":
                yield Fault((), "missing_field", f"{where[-1]!r} is missing")
            elif detail["type"] == "extra_forbidden":
                known = [one.alias or key for key, one in fields.model_fields.items()]
                wrong = f"there is no field {where[-1]!r}"
                yield Fault(where, "unknown_field", wrong, (where[-1], known))
            elif not _is_open(given, where, detail["type"]):
                yield Fault(where, "wrong_type", field_errors.told(detail))


def _is_open(given: Any, where: Path, wrong: str) -> bool:  # noqa: ANN401 - a JSON value
    """Return whether an expression stands at a path, or below it, so that its value comes later."""
    at: Any = given
    for part in where:
        if isinstance(at, Mapping) and part in at:
            at = at[part]
        elif isinstance(at, list) and part.isdigit() and int(part) < len(at):
            at = at[int(part)]
        else:
            break
    if isinstance(at, str) and wrong.endswith(("_type", "_parsing")):
        return is_one_expression(at)  # with more around it, it will be a text
    return any(True for _ in holes(at))


def _expressions(check: _Check, name: str, step: StepSpec) -> None:
    path = ("steps", name)
    places: list[tuple[str, object, bool]] = [
        ("with", step.with_, False),
        ("concurrency", step.concurrency, False),
    ]
    if isinstance(step.if_, str):
        places.append(("if", step.if_, True))
    if step.for_each is not None:
        places.append(("for_each", step.for_each, isinstance(step.for_each, str)))
    for place, template, bare in places:
        mapped = step.for_each is not None and place != "for_each"
        for found in _compiled(check, (*path, place), template, bare=bare):
            _names(check, (*path, place), found, of=name, mapped=mapped)
            if place == "if" and not found.may_be_bool:
                check.say((*path, place), "no_condition", f"{found.text} is neither true nor false")
    if step.compensate is not None:
        place_of = (*path, "compensate", "with")
        for found in _compiled(check, place_of, step.compensate.with_, bare=False):
            _names(check, place_of, found, of=name, mapped=False, itself=True)


def _compiled(check: _Check, path: Path, template: object, *, bare: bool) -> Iterator[Expression]:
    try:
        texts = [template] if bare and isinstance(template, str) else list(holes(template))
    except ExpressionRefused as error:
        check.say(path, "bad_expression", str(error).rstrip("."))
        return
    for text in texts:
        try:
            yield compile_expression(text)
        except ExpressionRefused as error:
            check.say(path, "bad_expression", str(error).rstrip("."))


def _names(
    check: _Check,
    path: Path,
    found: Expression,
    *,
    of: str | None,
    mapped: bool,
    itself: bool = False,
) -> None:
    if not mapped and found.names & _ITEM_NAMES:
        check.say(path, "no_item", "`item` and `index` exist only in a step with for_each")
    for step in sorted(found.steps):
        if step not in check.definition.steps:
            known = check.definition.steps
            check.say(path, "unknown_step", f"there is no step {step!r}", (step, known))
            continue
        if of is not None and not (itself and step == of):
            check.reads.append((path, of, step))
        _output(check, path, found, step)
    schema = check.definition.inputs
    if (
        schema
        and isinstance(schema.get("properties"), dict)
        and schema.get("additionalProperties") is not True
    ):
        for name in sorted(found.inputs - schema["properties"].keys()):
            known = schema["properties"]
            check.say(path, "unknown_input", f"`inputs` has no {name!r}", (name, known))


def _output(check: _Check, path: Path, found: Expression, step: str) -> None:
    of = check.definition.steps[step]
    kind = check.known.get(of.uses or "")
    if kind is None or kind.output is None or of.for_each is not None:
        return
    known = {one.alias or key for key, one in kind.output.model_fields.items()}
    for name in sorted(found.outputs.get(step, frozenset()) - known):
        missing = f"the output of {step!r} ({kind.name}) has no {name!r}"
        check.say(path, "unknown_output", missing, (name, known))


def _reads(check: _Check, order: Sequence[str]) -> None:
    wrong = unneeded(check.needs, order, ((of, step) for _, of, step in check.reads))
    for path, of, step in check.reads:
        if (of, step) in wrong:
            check.say(
                path,
                "not_needed",
                f"it reads the step {step!r} without needing it: add it to `needs`",
            )


def _run_expressions(check: _Check) -> None:
    definition = check.definition
    for found in _compiled(check, ("outputs",), definition.outputs, bare=False):
        _names(check, ("outputs",), found, of=None, mapped=False)
    concurrency = definition.concurrency
    key = concurrency if isinstance(concurrency, str) or concurrency is None else concurrency.key
    for found in _compiled(check, ("concurrency",), key, bare=False):
        if found.names - {"inputs"}:
            check.say(("concurrency",), "unknown_name", "a run's key may use only its inputs")
