"""The earliest of the moments for which each thing was asked."""

import asyncio


class Schedule:
    """Many things, each with at most one moment: asking again can only bring it nearer. Times of the event loop."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._nearer = asyncio.Event()

    def within(self, thing: str, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + seconds
        if at < self._at.get(thing, float("inf")):
            self._at[thing] = at
            self._nearer.set()

    def forget(self, thing: str) -> None:
        self._at.pop(thing, None)

    async def next(self) -> str:
        """The thing whose moment has come first; what was asked for it until then is answered by it."""
        loop = asyncio.get_running_loop()
        while True:
            thing = min(self._at, key=self._at.__getitem__, default="")
            at = self._at.get(thing, float("inf"))
            if at <= loop.time():
                del self._at[thing]
                return thing
            self._nearer.clear()
            try:
                async with asyncio.timeout_at(None if at == float("inf") else at):
                    await self._nearer.wait()
            except TimeoutError:
                pass


class Due:
    """One thing."""

    def __init__(self) -> None:
        self._schedule = Schedule()

    def within(self, seconds: float) -> None:
        self._schedule.within("", seconds)

    async def wait(self) -> None:
        """Until the moment has come; what was asked until then is answered by it."""
        await self._schedule.next()
