"""What many connections do to the daemon: nothing. A real process under a low `ulimit -n`, real sockets, no token needed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from web.flood_kit import flooded, many_descriptors

ALERT_S = 3.0  # from the fall to the receiver: hundredths of a second by itself, and a busy machine
LOG_BYTES = 20_000
LAG_S = 0.5


@pytest.mark.parametrize("descriptors", [64, 1024])
async def test_row_35_idle_connections_hold_up_no_alert(tmp_path: Path, descriptors: int) -> None:
    with many_descriptors():
        async with flooded(tmp_path, descriptors) as daemon:
            idle = await daemon.connect(1137)
            try:
                first_s = await daemon.crossing_s(30.0)
                assert (await daemon.get("api/v1/status"))[0] == 200, "the owner gets in"
                second_s = await daemon.crossing_s(30.0)
            finally:
                for sock in idle:
                    sock.close()
            assert max(first_s, second_s) < ALERT_S
            assert daemon.descriptors() < descriptors
            assert (await daemon.get("-/ready"))[0] == 200, "all is well when they are gone"
            assert daemon.log.stat().st_size < LOG_BYTES, daemon.log.read_text()[-2000:]


async def test_row_35_the_daemon_takes_all_descriptors_that_the_system_allows(tmp_path: Path) -> None:
    async with flooded(tmp_path, 256, hard=1024) as daemon:
        assert daemon.descriptors_max() == 1024


@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
async def test_row_39_pipelined_scrapes_and_event_streams_hold_up_no_alert(tmp_path: Path, reads: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(many_descriptors())
        daemon = await stack.enter_async_context(flooded(tmp_path, 4096))
        host = f"Host: 127.0.0.1:{daemon.port}\r\n\r\n"
        streams = await daemon.connect(1000, f"GET /api/v1/events HTTP/1.1\r\n{host}".encode())
        scrapes = await daemon.connect(200, 150 * f"GET /metrics HTTP/1.1\r\n{host}".encode(), reads=reads)
        stack.callback(lambda: [sock.close() for sock in streams + scrapes])
        seconds = [await daemon.crossing_s() for _ in range(3)]
        assert max(seconds) < ALERT_S
        assert await daemon.metric("margin_loop_lag_seconds") < LAG_S, "and the owner's own scrape is answered"
        assert daemon.descriptors() < 400
        assert daemon.log.stat().st_size < LOG_BYTES, daemon.log.read_text()[-2000:]
