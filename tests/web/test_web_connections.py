"""Which connection has to go."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from monitor.web.connections import CONNECTIONS_MAX, CONNECTIONS_MIN, Connection, Connections, connections_max


class Table:
    """A clock that the test moves, and connections whose transports note that they were aborted."""

    def __init__(self, maximum: int) -> None:
        self.now_s = 0.0
        self.all = Connections(maximum, lambda: self.now_s, head_s=10.0, send_s=10.0)
        self.aborted: list[Connection] = []

    def admit(self, address: str = "a", *, scarce: bool = False) -> Connection | None:
        self.now_s += 1.0
        one = self.all.admit(asyncio.Protocol(), address, scarce=scarce)
        if one is not None:
            transport = Mock(asyncio.Transport)
            transport.abort.side_effect = lambda: self.aborted.append(one)
            one.connection_made(transport)
        return one


def test_row_35_the_idlest_makes_room() -> None:
    table = Table(3)
    first, second, third = (table.admit() for _ in range(3))
    assert first is not None
    with table.all.handling(first.inner, streams=False):
        table.admit()
        assert table.aborted == [second], "the first has asked something and waits for its answer"
    table.now_s += 1.0
    table.admit()
    assert table.aborted == [second, third], "the first was busy later"
    assert len(table.all) == 3


def test_row_35_whoever_holds_most_makes_room_for_the_owner() -> None:
    table = Table(4)
    owner = table.admit("owner")
    crowd = [table.admit("crowd") for _ in range(3)]
    table.admit("another")
    assert owner is not None
    assert owner in table.all
    assert table.aborted == crowd[:1]


def test_row_35_event_streams_stay_and_all_others_are_refused_then() -> None:
    table = Table(2)
    for _ in range(2):
        one = table.admit()
        assert one is not None
        one.streams = True
    assert table.admit() is None
    assert table.aborted == []


def test_row_35_where_descriptors_are_scarce_the_page_has_a_few_still() -> None:
    table = Table(100)
    for _ in range(CONNECTIONS_MIN + 5):
        assert table.admit(scarce=True) is not None
    assert (len(table.all), len(table.aborted)) == (CONNECTIONS_MIN, 5)


@pytest.mark.parametrize(("descriptors", "maximum"), [(8, CONNECTIONS_MIN), (64, 16), (1024, 256), (1 << 20, CONNECTIONS_MAX)])
def test_row_35_the_page_has_a_quarter_of_the_descriptors_at_most(descriptors: int, maximum: int) -> None:
    assert connections_max(descriptors) == maximum
