"""The venues. What the app needs of one is the same for all."""

from collections.abc import Sequence
from typing import Protocol

from monitor.model.streams import Counters, StreamStatus
from monitor.venues.base import KeyFinding


class Venue(Protocol):
    """One venue with its accounts: turns its protocol into events for as long as it runs."""

    @property
    def name(self) -> str: ...

    @property
    def streams(self) -> Sequence[StreamStatus]: ...

    @property
    def counters(self) -> Counters: ...

    def request_tables(self, alias: str) -> None:
        """The margin tables that the account is under are to be read again soon."""

    def request_snapshot(self, alias: str, pool: str = "") -> None:
        """A full picture of the account, or of the pool where the venue's pictures are by pool, soon. "": of all."""

    def shut_out_until_ms(self) -> int:
        """The end of a ban of our address by the venue, by our clock; 0 or past: there is none."""

    def keep_out(self, until_ms: int) -> None:
        """No request before, because a run before this one was shut out until then."""

    async def check_keys(self) -> Sequence[KeyFinding]:
        """What is wrong with the accounts' keys."""

    async def run(self) -> None:
        """Until it is cancelled; raises only on a bug."""
