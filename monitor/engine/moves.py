"""Why the figures of pools moved since their last messages, in amounts that add up to the whole move.

Within one account event the market stands still, so what an equity moves by came with that event, and has its reason. Between
account events only prices and rates move. So every change is booked under its cause as it happens, and nothing is left over.
"""

from collections.abc import Iterable, Mapping

from monitor.model.alerts import Cause

CAUSES_MAX = 5  # told one by one; what is smaller is told as one
SMALL = 1e-10  # of the pool's equity: a cause below this is rounding

TRADES, FUNDING, TRANSFER, SETTLEMENT = "trades and fees", "funding", "transfer", "settlement"
MODE, GAP, FOUND, OTHER = "change of mode", "change while the stream was down", "change found by REST", "other change"
RETOLD = "change found by a later push"
AHEAD = "what the venue's figures hold and its legs do not yet"
LISTS = "list of the venue"  # contracts or collateral described anew

# The venues' own words for the reason of an account event: Binance ACCOUNT_UPDATE `m`, HTX `event` of the private topics.
WHYS = {
    "ORDER": TRADES,
    "FUNDING_FEE": FUNDING,
    **dict.fromkeys(
        (
            "DEPOSIT",
            "WITHDRAW",
            "WITHDRAW_REJECT",
            "ADMIN_DEPOSIT",
            "ADMIN_WITHDRAW",
            "ASSET_TRANSFER",
            "MARGIN_TRANSFER",
            "COIN_SWAP_DEPOSIT",
            "COIN_SWAP_WITHDRAW",
            "contract.transfer",
        ),
        TRANSFER,
    ),
    "MARGIN_TYPE_CHANGE": MODE,
    "AUTO_EXCHANGE": "automatic exchange",
    "INSURANCE_CLEAR": "liquidation",
    **dict.fromkeys(("order.open", "order.close", "order.match", "order.cancel"), TRADES),
    "order.liquidation": "liquidation",
    "settlement": SETTLEMENT,
    "switch_lever_rate": "leverage",
    **dict.fromkeys(("init", "snapshot"), RETOLD),
}


def why(reason: str) -> str:
    """The cause of an account event, by the venue's own word."""
    return WHYS.get(reason, OTHER)


class Moves:
    """Amounts by row of a table and cause, added up until they are told."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, float]] = {}

    def add(self, row: int, what: str, amount: float) -> None:
        """What is not known, as where a price is missing, adds nothing: it is told as a move of the price that comes."""
        if amount and amount == amount:  # noqa: PLR0124  not NaN
            causes = self._rows.setdefault(row, {})
            causes[what] = causes.get(what, 0.0) + float(amount)

    def of(self, row: int) -> Mapping[str, float]:
        return self._rows.get(row, {})

    def forget(self, rows: Iterable[int]) -> None:
        for row in rows:
            self._rows.pop(row, None)


def told(
    moved: Mapping[str, float], required: Mapping[str, float], *, unit: str, equity: float, requirement: float
) -> tuple[Cause, ...]:
    """The causes of one pool, those first that moved its health most.

    moved: of its equity, all of it; required: of its requirement, what prices did not do. A requirement that grows by 1 % costs
    as much health as an equity that falls by 1 %.
    """
    least = SMALL * abs(equity)
    parts = sorted(((abs(amount), what) for what, amount in moved.items() if abs(amount) > least), reverse=True)
    ranked = [(size, Cause(what, moved[what], unit)) for size, what in parts[:CAUSES_MAX]]
    rest = sum(moved[what] for _, what in parts[CAUSES_MAX:])
    if abs(rest) > least:
        ranked.append((0.0, Cause("all else", rest, unit)))
    weight = abs(equity) / requirement if requirement > 0 else 1.0
    ranked += [
        (weight * abs(amount), Cause(what, amount, unit, of="requirement"))
        for what, amount in required.items()
        if abs(amount) > SMALL * requirement
    ]
    return tuple(cause for _, cause in sorted(ranked, key=lambda pair: -pair[0]))
