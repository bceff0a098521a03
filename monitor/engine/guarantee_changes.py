"""What the venue changed in the margin tables of a coin, old and new, in words."""

from itertools import zip_longest
from typing import NamedTuple

from monitor.model.instruments import FactorTable, FactorTier, LadderTable, LadderTier

TIERS_MAX = 4  # that one message names


class TableChange(NamedTuple):
    """Of one table of a coin. leverage: at which it holds; None: at any."""

    coin: str
    leverage: float | None
    text: str


def of_factors(old: FactorTable, new: FactorTable) -> TableChange:
    rows = [(_factor(a), _factor(b)) for a, b in zip_longest(old.tiers, new.tiers)]
    return TableChange(new.coin, new.leverage, f"adjustment factor at {new.leverage:g}x: {_listed(rows)}")


def of_ladders(old: LadderTable, new: LadderTable) -> TableChange:
    rows = [(_ladder(a), _ladder(b)) for a, b in zip_longest(old.tiers, new.tiers)]
    return TableChange(new.coin, new.leverage, f"margin ladder at {new.leverage:g}x: {_listed(rows)}")


def of_terms(coin: str, old: float, new: float) -> TableChange:
    return TableChange(coin, None, f"share of realised profit that may leave before settlement: {old:g} → {new:g}")


def of_pool(changes: list[TableChange], coin: str, leverage: float) -> str:
    """What concerns a pool of the coin at this leverage; that there is nothing, where only others are concerned."""
    of_coin = [change for change in changes if change.coin == coin]
    own = [change.text for change in of_coin if change.leverage in (None, leverage)]
    others = sorted({change.leverage for change in of_coin if change.leverage not in (None, leverage)} - {None})
    if own:
        return "; ".join(own)
    return f"at {', '.join(f'{other:g}x' for other in others)}, not at {leverage:g}x"


def _listed(rows: list[tuple[str, str]]) -> str:
    changed = [f"{old} → {new}" for old, new in rows if old != new]
    more = f", and {len(changed) - TIERS_MAX} more tiers" if len(changed) > TIERS_MAX else ""
    return ", ".join(changed[:TIERS_MAX]) + more


def _factor(tier: FactorTier | None) -> str:
    return "none" if tier is None else f"{tier.factor:.4g} from {tier.net_min:g} contracts"


def _ladder(tier: LadderTier | None) -> str:
    return "none" if tier is None else f"{tier.usable_min:g} usable from {tier.equity_min:g}"
