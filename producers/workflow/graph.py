"""A definition as a Mermaid graph, coloured by the states of a run."""

from collections.abc import Mapping
from typing import Final

from shared.workflow.definition import Definition

_COLOURS: Final[Mapping[str, str]] = {
    "pending": "fill:#eee,stroke:#999",
    "ready": "fill:#eef,stroke:#66c",
    "running": "fill:#cdf,stroke:#06c",
    "waiting": "fill:#ffd,stroke:#aa0",
    "completed": "fill:#cfc,stroke:#090",
    "skipped": "fill:#fff,stroke:#999,stroke-dasharray:4",
    "failed": "fill:#fcc,stroke:#c00",
    "cancelled": "fill:#ddd,stroke:#666",
}


def mermaid(definition: Definition, states: Mapping[str, str] | None = None) -> str:
    """Return the graph of a definition as Mermaid text.

    Args:
        definition: The definition to draw.
        states: A run's states by step name; without them nothing is coloured.
    """
    lines = ["flowchart TD"]
    for name, step in definition.steps.items():
        kind = step.uses or ("signal" if step.wait_for is not None else "sleep")
        shape = f"{name}<br/><i>{kind}</i>"
        mapped = step.for_each is not None
        lines.append(f'    {name}[["{shape}"]]' if mapped else f'    {name}["{shape}"]')
    for name, step in definition.steps.items():
        needs = [step.needs] if isinstance(step.needs, str) else step.needs
        asked = "-. if .->" if step.if_ is not None else "-->"
        lines += [f"    {needed} {asked} {name}" for needed in needs]
        if step.compensate is not None:
            lines += [
                f'    undo_{name}("{step.compensate.uses}")',
                f"    {name} -. undo .-> undo_{name}",
            ]
    used = (
        {}
        if states is None
        else {name: state for name, state in states.items() if state in _COLOURS}
    )
    lines += [f"    classDef {state} {_COLOURS[state]}" for state in sorted(set(used.values()))]
    lines += [
        f"    class {name} {state}" for name, state in used.items() if name in definition.steps
    ]
    return "\n".join(lines) + "\n"
