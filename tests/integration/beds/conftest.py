"""A bed pool alone, on a real database of its own."""

from collections.abc import AsyncIterator

import pytest_asyncio

from services.beds.actions import Pool
from services.beds.settings import Settings
from shared.clock import Clock
from shared.db import Database, create_pool
from tests.conftest import Databases, settings_for


@pytest_asyncio.fixture
async def pool_db(databases: Databases) -> AsyncIterator[Database]:
    """An empty pool with many sessions, so that transactions really meet."""
    dsn = await databases.create("beds")
    opened = await create_pool(settings_for(dsn, "beds").model_copy(update={"pool_size_max": 32}))
    yield Database(opened, Clock())
    opened.terminate()
    await databases.drop(dsn)


@pytest_asyncio.fixture
async def pool() -> Pool:
    """What the hospital decides, as it comes."""
    return Pool(Settings(database_url="unused"))
