"""Fixtures of the tests of alerts; their kits are importable by name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from alerts_kit import Receiver, open_store, receiver

from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.store import Store


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    """Takes what is posted to it, and answers as it is told."""
    async with receiver() as one:
        yield one


@pytest.fixture
async def store() -> AsyncIterator[Store[IncidentRecord, OutboxRow]]:
    """In memory."""
    one = await open_store()
    yield one
    await one.close()
