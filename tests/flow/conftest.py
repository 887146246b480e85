"""A whole hospital per test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.conftest import Databases
from tests.support.hospital import Hospital, opened_hospital


@pytest_asyncio.fixture
async def hospital(databases: Databases) -> AsyncIterator[Hospital]:
    """All five services in one process, on the memory broker and a database of their own, with a clock that stands still."""
    async with opened_hospital(databases) as opened:
        yield opened
