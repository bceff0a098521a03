"""`margin-monitor demo` as a newcomer runs it, in a process of its own: what he is told first is what the product is about."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

SECONDS = 60.0  # from the command to the first critical alert, by the promise


def free_address() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


async def test_section_3_the_first_critical_alert_of_the_demo_is_health_within_a_minute() -> None:
    """No rate of a coin cries wolf before it, nor does the simulated venue's own margin call come first."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "monitor", "demo", "--listen", free_address(), "--seconds", str(SECONDS)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    sent: list[str] = []  # first lines of what Slack got, in the order of arrival
    try:
        while line := (await process.stdout.readline()).decode():
            if line.startswith("→ Slack: "):
                sent.append(line.removeprefix("→ Slack: ").strip())
            if "[CRITICAL]" in line:
                break
        assert sent, "the demo ended without a message"
        assert sent[-1] == "[CRITICAL] worse, was high: binance · USD · binance_usdm · health", sent
        assert time.monotonic() - began < SECONDS
        assert all(message.endswith(" · health") for message in sent), sent
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
    assert process.returncode == 0
