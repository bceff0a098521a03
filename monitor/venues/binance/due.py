"""The earliest of the moments for which something was asked."""

import asyncio


class Due:
    """One waiter, many askers: asking again can only bring the moment nearer."""

    def __init__(self) -> None:
        self._at = float("inf")
        self._nearer = asyncio.Event()

    def within(self, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + seconds
        if at < self._at:
            self._at = at
            self._nearer.set()

    async def wait(self) -> None:
        """Until the moment has come; what was asked until then is answered by it."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._at:
            self._nearer.clear()
            try:
                async with asyncio.timeout_at(None if self._at == float("inf") else self._at):
                    await self._nearer.wait()
            except TimeoutError:
                break
        self._at = float("inf")
