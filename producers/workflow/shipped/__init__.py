"""The definitions that come along: real ones, to run as they are or to begin from."""

from importlib import resources


def shipped() -> dict[str, str]:
    """The YAML text of each, by its name."""
    files = (one for one in resources.files(__name__).iterdir() if one.name.endswith(".yaml"))
    return {one.name.removesuffix(".yaml"): one.read_text(encoding="utf-8") for one in files}
