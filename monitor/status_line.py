"""How all is, in one line: for the service manager's status."""

from collections.abc import Iterable

import numpy as np

from monitor.model.alerts import Level, gravities
from monitor.model.figures import PoolTable


def status_line(table: PoolTable, troubles: Iterable[str] = ()) -> str:
    """ "3 pools, worst: critical (main USD health 1.18); stream_down". By gravity; then the health counts."""
    count = len(table.keys)
    parts = [f"{count} pool{'' if count == 1 else 's'}" + (f", worst: {_worst(table)}" if count else "")]
    parts += troubles
    return "; ".join(parts)


def _worst(table: PoolTable) -> str:
    row = int(np.lexsort((table.health, -gravities(table.level)))[0])  # NaN sorts last
    key, health = table.keys[row], float(table.health[row])
    figure = f" health {health:.2f}" if np.isfinite(health) else ""
    return f"{Level(int(table.level[row])).word} ({key.account} {key.pool}{figure})"
