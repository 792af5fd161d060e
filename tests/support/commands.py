"""What tests of commands read: the one JSON document that a command printed, or why it failed."""

import json
from typing import Any


def document(answer: tuple[int, str]) -> Any:
    """What a command with --json printed that ended well."""
    code, output = answer
    assert code == 0, output
    return json.loads(output)


def refused(answer: tuple[int, str]) -> str:
    """What a command said that did not end well."""
    code, output = answer
    assert code != 0
    return output
