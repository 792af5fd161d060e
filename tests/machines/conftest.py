"""The profile of long runs: `pytest tests/machines --hypothesis-profile=nightly`."""

from hypothesis import settings

settings.register_profile("nightly")
