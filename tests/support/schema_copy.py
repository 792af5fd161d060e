"""A copy of the schema's files that a test may change."""

import shutil
from pathlib import Path

import pytest

from shared.schema import versions


def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the files of the schema, and have the next migration read the copy."""
    copied = tmp_path / "schema"
    shutil.copytree(versions.FOLDER, copied)
    (copied / "steps").mkdir(exist_ok=True)
    monkeypatch.setattr(versions, "FOLDER", copied)
    return copied
