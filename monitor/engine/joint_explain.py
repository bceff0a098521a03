"""One pool with its workings, for people: figures per asset and position, what moved it, and what to do."""

from collections import defaultdict

import numpy as np

from monitor.engine import moves
from monitor.engine.columns import FloatColumn
from monitor.engine.joint_book import JointBook
from monitor.engine.market import NEVER, UNIT, haircut_rounding
from monitor.engine.pools import Rows
from monitor.margin import joint
from monitor.margin.levers import deposit_for_health, reduction_for_health
from monitor.margin.liquidation import liquidation_prices
from monitor.model.alerts import Cause, Lever
from monitor.model.figures import AssetFigures, PoolFigures, PositionFigures

DEPOSITS_MAX = 3


class JointExplainer:
    """Reads the book; changes nothing but the baselines of `causes`."""

    def __init__(self, book: JointBook) -> None:
        self._book = book

    # -------------------------------------------------------------- figures

    def figures(self, pool: int, *, now_ms: int, level: int, trusted: bool, why_untrusted: str = "") -> PoolFigures:
        book = self._book
        p = book.pools
        slots, legs = self._rows(pool)
        equity, requirement = _known(p.equity[pool]), _known(p.requirement[pool])
        one = np.array([p.equity[pool]]), np.array([p.requirement[pool]])
        ratio, health = _known(joint.margin_ratio(*one)[0]), _known(joint.health(*one)[0])
        assets, positions = self._assets(slots), self._positions(legs, slots, now_ms)
        unknown = self._unknown(pool, legs, slots, positions)
        if why_untrusted:
            unknown.append(f"not trusted: {why_untrusted}")
        return PoolFigures(
            key=book.pool_keys[pool],
            unit=self.unit(pool),
            equity=equity,
            requirement=requirement,
            initial_margin=_known(p.initial[pool]),
            margin_ratio=None if ratio is None or np.isinf(ratio) else ratio,
            health=health,
            available=_known(book.available()[pool]),
            withdrawable=_known(book.withdrawable()[pool]),
            level=level,
            trusted=trusted,
            age_ms=None if p.fresh_ms[pool] == NEVER else max(0, now_ms - int(p.fresh_ms[pool])),
            reconcile_difference=_known(p.difference[pool]),
            venue_age_ms=None if p.answered_ms[pool] == NEVER else max(0, now_ms - int(p.answered_ms[pool])),
            venue_equity=_known(p.venue_equity[pool]),
            venue_requirement=_known(p.venue_requirement[pool]),
            venue_withdrawable=_known(p.venue_withdrawable[pool]),
            assets=assets,
            positions=positions,
            unknown=tuple(unknown),
        )

    def unit(self, pool: int) -> str:
        """What the pool's amounts are in: USD for joint margin, else its margin asset."""
        name = self._book.pool_keys[pool].pool
        if not self._book.pools.isolated[pool]:
            return name
        slots, _ = self._rows(pool)
        return self._book.slot_assets[slots[0]] if len(slots) else name

    def _rows(self, pool: int) -> tuple[Rows, Rows]:
        """(slots, legs that are open) of a pool."""
        book = self._book
        account = book.accounts[book.pool_keys[pool].account]
        slots, legs = account.slot_rows(), account.leg_rows()
        slots = slots[book.slots.pool[slots] == pool]
        legs = legs[(book.legs.quantity[legs] != 0) & np.isin(book.legs.slot[legs], slots)]
        return slots, legs

    def _assets(self, slots: Rows) -> tuple[AssetFigures, ...]:
        book, s, rates = self._book, self._book.slots, self._book.market.assets
        return tuple(
            AssetFigures(
                asset=book.slot_assets[row],
                wallet=float(s.wallet[row]),
                equity=_known(s.equity[row]),
                index=_known(rates.index[s.rate_row[row]]),
                bid=_known(rates.bid[s.rate_row[row]]),
                ask=_known(rates.ask[s.rate_row[row]]),
                maintenance_margin=_known(s.maintenance[row]),
            )
            for row in slots
            if s.wallet[row] or s.equity[row] != 0 or s.maintenance[row] != 0 or s.initial[row] != 0
        )

    def _positions(self, legs: Rows, slots: Rows, now_ms: int) -> tuple[PositionFigures, ...]:
        book, columns, market = self._book, self._book.legs, self._book.market
        pnl, maintenance, notional = book.leg_figures(legs, market.symbols.price)
        liquidation = self._liquidation(legs, slots)
        out = []
        for i, row in enumerate(legs):
            _, symbol, side = book.leg_keys[row]
            symbol_row = columns.symbol[row]
            seen = int(market.symbols.seen_ms[symbol_row])
            brackets = book.bracket_table(int(row)).brackets
            leverage = _known(columns.leverage[row])
            out.append(
                PositionFigures(
                    symbol=symbol,
                    side=side,
                    margin_asset=book.slot_assets[columns.slot[row]],
                    quantity=float(columns.quantity[row]),
                    entry_price=float(columns.entry[row]),
                    price=_known(market.symbols.price[symbol_row]),
                    price_age_ms=None if seen == NEVER else max(0, now_ms - seen),
                    leverage=leverage,
                    unrealized_pnl=_known(pnl[i]),
                    notional=_known(np.copysign(notional[i], columns.quantity[row])),
                    initial_margin=_known(notional[i] / leverage) if leverage else None,
                    maintenance_margin=_known(maintenance[i]),
                    bracket=brackets[columns.tier[row]].number if brackets else None,
                    maintenance_rate=_known(columns.rate[row]),
                    liquidation_price=_known(liquidation[i]),
                )
            )
        return tuple(out)

    def _liquidation(self, legs: Rows, slots: Rows) -> FloatColumn:
        book, columns = self._book, self._book.legs
        if not len(legs):
            return np.zeros(0)
        place = {int(row): i for i, row in enumerate(slots)}
        rates = book.market.assets
        rate_row = book.slots.rate_row[slots]
        tables = columns.table[legs]
        return liquidation_prices(
            symbol=columns.symbol[legs],
            quantity=columns.quantity[legs],
            entry=columns.entry[legs],
            mark=book.market.symbols.price[columns.symbol[legs]],
            floors=book.tiers.floors[tables],
            rates=book.tiers.rates[tables],
            deductions=book.tiers.deductions[tables],
            slot=np.array([place[int(slot)] for slot in columns.slot[legs]], np.intp),
            slot_wallet=book.slots.wallet[slots],
            slot_bid=rates.bid[rate_row],
            slot_ask=rates.ask[rate_row],
        )

    def _notional(self, leg: int) -> float:
        legs = self._book.legs
        return float(abs(legs.quantity[leg] * self._book.market.symbols.price[legs.symbol[leg]]))

    def _unknown(self, pool: int, legs: Rows, slots: Rows, positions: tuple[PositionFigures, ...]) -> list[str]:
        """Why a figure of the pool is None, each cause once."""
        book, columns, market = self._book, self._book.legs, self._book.market
        p, s = book.pools, book.slots
        ratios = "margin_ratio, health, liquidation_price"
        reasons = []
        for row in legs:
            symbol = book.leg_keys[row][1]
            if np.isnan(market.symbols.price[columns.symbol[row]]):
                reasons.append(f"equity, maintenance_margin, available, withdrawable, {ratios}: no mark price of {symbol}")
            if not book.bracket_table(int(row)).brackets:
                reasons.append(f"maintenance_margin, withdrawable, {ratios}: no brackets of {symbol}")
            elif columns.rate[row] * self._notional(row) <= columns.deduction[row]:
                reasons.append(f"maintenance_margin, withdrawable, {ratios}: the brackets of {symbol} ask for nothing or less")
            if np.isnan(columns.leverage[row]):
                reasons.append(f"available, withdrawable: the leverage of {symbol} is not known")
        for row in slots:
            used = s.equity[row] != 0 or s.maintenance[row] != 0
            if used and np.isnan(market.assets.bid[s.rate_row[row]]):
                reasons.append(f"equity, available, withdrawable, {ratios}: no collateral rate of {book.slot_assets[row]}")
        if p.requirement[pool] == 0:
            reasons.append("health: no maintenance margin, so nothing can be liquidated")
        if p.requirement[pool] > 0 and p.equity[pool] <= 0:
            reasons.append("margin_ratio: beyond any number, equity is not positive")
        if p.isolated[pool]:
            reasons.append("available: an isolated position has none of its own, orders use the cross wallet")
        elif np.isnan(p.venue_withdrawable[pool]):
            reasons.append("withdrawable: the venue has not said its own figure")
        if not any("liquidation_price" in reason for reason in reasons):
            reasons += [
                f"liquidation_price: none, no price of {position.symbol} alone liquidates the pool"
                for position in positions
                if position.liquidation_price is None
            ]
        return list(dict.fromkeys(reasons))

    # -------------------------------------------------------------- why, and what to do

    def causes(self, pool: int) -> tuple[Cause, ...]:
        """What moved the pool since the last call; then the count begins anew. Nothing while its equity is unknown.

        Each asset's move is what its own equity moved by, at the rate of now, and the rate itself on what was there before.
        """
        book, p = self._book, self._book.pools
        equity = float(p.equity[pool])
        if np.isnan(equity):
            return ()
        slots, legs = self._rows(pool)
        said: tuple[Cause, ...] = ()
        if p.based[pool]:
            required = book.required.of(pool)
            moved = self._moved(slots, legs)
            said = moves.told(moved, required, unit=self.unit(pool), equity=equity, requirement=float(p.requirement[pool]))
        self._set_base(np.array([pool]), slots, legs)
        return said

    def _moved(self, slots: Rows, legs: Rows) -> dict[str, float]:
        """By cause, in the pool's unit."""
        book = self._book
        s, columns, market = book.slots, book.legs, book.market
        rate = self._rate(slots)
        rate_of = dict(zip(slots.tolist(), np.where((s.equity[slots] == 0) & np.isnan(rate), 0.0, rate).tolist(), strict=True))
        moved: defaultdict[str, float] = defaultdict(float)
        for row in slots.tolist():
            for what, amount in book.moves.of(row).items():
                moved[what] += amount * rate_of[row]
            if s.rate_row[row] != UNIT and s.base_equity[row]:
                by_index, by_haircut = self._rate_moves(row, rate_of[row])
                moved[f"rate of {book.slot_assets[row]}"] += by_index
                moved[f"haircut of {book.slot_assets[row]}"] += by_haircut
        price = market.symbols.price[columns.symbol[legs]]
        earned = columns.quantity[legs] * (price - columns.base_price[legs])
        for row, slot, amount in zip(legs.tolist(), columns.slot[legs].tolist(), earned.tolist(), strict=True):
            moved[book.leg_name(row)] += amount * rate_of[slot]
        return moved

    def _rate_moves(self, row: int, rate: float) -> tuple[float, float]:
        """What index and haircut did to what the slot held at the last message. Owed instead of owned is the haircut's doing."""
        s = self._book.slots
        held, rate_before, index_before = float(s.base_equity[row]), float(s.base_rate[row]), float(s.base_index[row])
        index = float(self._book.market.assets.index[s.rate_row[row]])
        factor, factor_before = rate / index, rate_before / index_before
        if abs(factor - factor_before) <= haircut_rounding(index, index_before):
            return held * (rate - rate_before), 0.0
        return held * (index - index_before) * factor_before, held * index * (factor - factor_before)

    def begin_baselines(self) -> None:
        """Pools that became known and have no baseline yet: their next message tells the move from here."""
        book, p = self._book, self._book.pools
        fresh = np.flatnonzero(~p.based & ~np.isnan(p.equity))
        if len(fresh):
            slots = np.flatnonzero(np.isin(book.slots.pool, fresh))
            self._set_base(fresh, slots, np.flatnonzero(np.isin(book.legs.slot, slots)))

    def _rate(self, slots: Rows) -> FloatColumn:
        rates, s = self._book.market.assets, self._book.slots
        row = s.rate_row[slots]
        return joint.rate_used(s.equity[slots], rates.bid[row], rates.ask[row])

    def _set_base(self, pools: Rows, slots: Rows, legs: Rows) -> None:
        book = self._book
        s, columns, market = book.slots, book.legs, book.market
        s.base_equity[slots] = s.equity[slots]
        s.base_rate[slots] = self._rate(slots)
        s.base_index[slots] = market.assets.index[s.rate_row[slots]]
        columns.base_price[legs] = market.symbols.price[columns.symbol[legs]]
        book.moves.forget(slots.tolist())
        book.required.forget(pools.tolist())
        book.pools.based[pools] = True

    def levers(self, pool: int, target: float) -> tuple[Lever, ...]:
        """What to send, most used asset first, or what to close, so that health is `target` again."""
        book, s, rates = self._book, self._book.slots, self._book.market.assets
        slots, legs = self._rows(pool)
        equity, requirement = book.pools.equity[pool], book.pools.requirement[pool]
        if np.isnan(equity) or np.isnan(requirement) or requirement <= 0:
            return ()
        row = s.rate_row[slots]
        bid, ask = rates.bid[row], rates.ask[row]
        ranked = sorted(range(len(slots)), key=lambda i: (-s.maintenance[slots[i]], -abs(s.value[slots[i]])))
        levers = []
        for i in ranked[:DEPOSITS_MAX]:
            amount = deposit_for_health(
                slot_equity=s.equity[slots],
                slot_bid=bid,
                slot_ask=ask,
                slot_index=i,
                equity=float(equity),
                requirement=float(requirement),
                target=target,
            )
            if amount > 0 and np.isfinite(amount):
                levers.append(Lever("send", amount, book.slot_assets[slots[i]], target))
        if not book.pools.isolated[pool]:  # with a part of an isolated position the venue takes the margin of that part
            levers += self._reductions(legs, float(equity), float(requirement), target)
        return tuple(levers)

    def _reductions(self, legs: Rows, equity: float, requirement: float, target: float) -> list[Lever]:
        """The single position whose smallest part, closed at the mark, does it."""
        if not len(legs) or equity >= target * requirement:
            return []
        book, columns = self._book, self._book.legs
        _, _, notional = book.leg_figures(legs, book.market.symbols.price)
        tables = columns.table[legs]
        fraction = reduction_for_health(
            notional=notional,
            floors=book.tiers.floors[tables],
            rates=book.tiers.rates[tables],
            deductions=book.tiers.deductions[tables],
            ask=book.market.assets.ask[book.slots.rate_row[columns.slot[legs]]],
            equity=equity,
            requirement=requirement,
            target=target,
        )
        if np.isnan(fraction).all():
            return []
        i = int(np.nanargmin(fraction * notional))
        return [Lever("close", float(fraction[i] * abs(columns.quantity[legs[i]])), book.leg_keys[legs[i]][1], target)]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
