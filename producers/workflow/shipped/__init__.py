"""Built-in workflow definitions, to run unchanged or to start from."""

from importlib import resources


def shipped() -> dict[str, str]:
    """Return the YAML text of each definition by name."""
    files = (one for one in resources.files(__name__).iterdir() if one.name.endswith(".yaml"))
    return {one.name.removesuffix(".yaml"): one.read_text(encoding="utf-8") for one in files}
