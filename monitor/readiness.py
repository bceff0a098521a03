"""When the monitor may be believed: each stream has brought data, each account is known, and each pool agrees with the venue."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

from monitor.engine.engine import Engine
from monitor.venues import Venue


class Gap(Struct, frozen=True):
    """One thing that is still missing. subject: the stream, "" for an account, or the pool."""

    part: Literal["stream", "account", "pool"]
    venue: str
    account: str  # "": all accounts of the venue
    subject: str
    text: str


def gaps(venues: Sequence[Venue], engine: Engine) -> Iterator[Gap]:
    """First data of every stream, a picture of every account, and its agreement with the venue's own figures."""
    for stream in (stream for venue in venues for stream in venue.streams if not stream.first_data):
        whose = stream.account or "all accounts"
        text = f"{stream.venue} {whose}: no data of the {stream.stream} stream yet"
        yield Gap("stream", stream.venue, stream.account, stream.stream, text)
    for (venue, alias), why in engine.trusted().items():
        if why:
            yield Gap("account", venue, alias, "", f"{venue} {alias}: {why}")
    table = engine.table()
    for row in np.flatnonzero(np.isnan(table.reconcile_difference) & (table.requirement != 0)):
        key = table.keys[row]
        text = f"{key.venue} {key.account} {key.pool}: not yet compared with the venue's own figures"
        yield Gap("pool", key.venue, key.account, key.pool, text)
