"""A folder for bundles."""

from pathlib import Path

import pytest

from tests.unit.journeys.bundles import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder."""
    return Folder(tmp_path)
