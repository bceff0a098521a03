"""Who hears of an incident."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.alerts.settings import AlertSettings, RouteSettings, level_of
from monitor.model.alerts import IncidentKey, Level

CHANNEL_RULE = "channel"  # the monitor's own: a channel is broken
STALE_RULE = "stale"  # old data; from critical on the figures are UNKNOWN
STORE_RULE = "store"  # the monitor's own: the disk does not keep our state
DEGRADED_RULE = "degraded"  # of no venue: the monitor itself is impaired


class Routes:
    """Channels by level, account and rule. What the monitor says of itself passes every filter but the level, and the death of
    all data passes the filter of rules."""

    def __init__(self, settings: AlertSettings) -> None:
        self._order = tuple(channel.name for channel in settings.channels)
        everything = (RouteSettings(channels=self._order),) if self._order else ()
        self._routes = settings.routes or everything
        self._routed = {name for route in self._routes for name in route.channels}

    @property
    def channels(self) -> Sequence[str]:
        """All of them, in the order of the configuration."""
        return self._order

    def of(self, key: IncidentKey, level: Level) -> tuple[str, ...]:
        """The channels that get a message of this level, in the order of the configuration."""
        names = {name for route in self._routes if _matches(route, key, level) for name in route.channels}
        if key.rule == CHANNEL_RULE:
            names.discard(key.subject)
        return tuple(name for name in self._order if name in names)

    def after(self, name: str, key: IncidentKey) -> tuple[str, ...]:
        """The other channels, in the order in which a message about this falls over to them: those that may hear of it."""
        place = self._order.index(name)
        return tuple(other for other in self._order[place + 1 :] + self._order[:place] if self.may_hear(other, key))

    def may_hear(self, name: str, key: IncidentKey) -> bool:
        """By a route for the account, whatever its level and rules, or as no route names the channel at all, which makes it
        everybody's reserve. One client's alerts are not another's. No channel hears of its own trouble."""
        if name not in self._order or (key.rule == CHANNEL_RULE and key.subject == name):
            return False
        return name not in self._routed or any(name in route.channels and _is_of(route, key) for route in self._routes)


def _matches(route: RouteSettings, key: IncidentKey, level: Level) -> bool:
    if level.gravity < level_of(route.min_level):
        return False
    if not key.venue:  # of the monitor itself
        return True
    # A feed of the whole venue is every account's; and where the data have died, no other rule can speak any more.
    blind = key.rule == STALE_RULE and level.gravity >= Level.CRITICAL
    return _is_of(route, key) and (blind or not route.rules or key.rule in route.rules)


def _is_of(route: RouteSettings, key: IncidentKey) -> bool:
    return not route.accounts or not key.account or key.account in route.accounts
