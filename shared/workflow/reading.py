"""Read a definition from YAML or JSON."""

import yaml
from pydantic import ValidationError

from shared.errors import DefinitionRefused
from shared.workflow.definition import Definition


def read(text: str, *, source: str = "workflow") -> Definition:
    """Read and check a definition.

    Raises:
        DefinitionRefused: The message names each fault.
    """
    try:
        value = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise DefinitionRefused(f"{source}: {error}") from error
    return of_json(value)


def of_json(value: object) -> Definition:
    """A definition from its JSON form.

    Raises:
        DefinitionRefused: The message names each fault.
    """
    try:
        return Definition.model_validate(value)
    except ValidationError as error:
        raise DefinitionRefused(str(error)) from error
