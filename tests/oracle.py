"""The margin rules once more, slow and obvious, in exact fractions: what the figures of `monitor` are judged by.

It shares no arithmetic with `monitor.margin` and imports nothing of it. Numbers go in as the decimal strings that the
venue would print. First the book and its exact figures, then random books, then the events that tell the engine of a book.
Source of every rule: Binance help pages on Multi-Assets mode, on leverage and margin, and on liquidation prices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import product
from random import Random

from hypothesis import strategies as st

from monitor.model.events import (
    AccountSnapshot,
    AssetRate,
    AssetRates,
    Balance,
    Brackets,
    Event,
    Instruments,
    Mode,
    Position,
    Price,
    PriceKind,
    Prices,
)
from monitor.model.instruments import AssetInfo, Bracket, BracketTable, Instrument

# ------------------------------------------------------------------ a book


@dataclass(frozen=True)
class Tier:
    floor: str
    cap: str
    rate: str
    cum: str
    leverage: int = 1


@dataclass(frozen=True)
class Leg:
    symbol: str
    side: str  # "BOTH", "LONG", "SHORT"
    quantity: str  # signed coin
    entry: str
    isolated: bool = False
    isolated_wallet: str = "0"

    @property
    def pool(self) -> str:
        """The name of its pool where it is isolated."""
        return self.symbol if self.side == "BOTH" else f"{self.symbol}:{self.side}"


@dataclass(frozen=True, repr=False)
class Book:
    """One account at one moment."""

    mode: Mode
    hedge: bool
    wallets: dict[str, str]  # cross wallet by asset
    rates: dict[str, tuple[str, str, str]]  # by asset: index, bid, ask in USD
    legs: tuple[Leg, ...]
    marks: dict[str, str]  # by symbol
    margin_assets: dict[str, str]
    brackets: dict[str, tuple[Tier, ...]]
    leverages: dict[str, str]
    open_orders: dict[str, str] = field(default_factory=dict)  # initial margin of open orders by asset, in the asset
    not_collateral: frozenset[str] = frozenset()  # marginAvailable=false: counts for nothing in Multi-Assets mode
    marks_before: dict[str, str] = field(default_factory=dict)  # an earlier frame, other tiers: only for the events

    def __repr__(self) -> str:
        return f"<Book: {self.mode}, {len(self.legs)} legs>"  # all of it is no help: hypothesis prints the call that makes it


# ------------------------------------------------------------------ exact figures


exact = lru_cache(maxsize=1 << 16)(Fraction)  # of a decimal string: reading it is most of the work


@dataclass(frozen=True)
class LegFigures:
    """Amounts in the margin asset."""

    leg: Leg
    pnl: Fraction
    notional: Fraction  # signed
    maintenance: Fraction
    initial: Fraction
    tier: int  # from 0


@dataclass(frozen=True)
class Pool:
    """Amounts in `unit`. None: margin_ratio +∞, health of a pool that nothing is required of, available of an isolated one."""

    name: str
    unit: str
    equity: Fraction
    maintenance: Fraction
    initial: Fraction
    margin_ratio: Fraction | None
    health: Fraction | None
    available: Fraction | None
    legs: tuple[LegFigures, ...]
    gross: Fraction  # sum of the sizes of all terms: what the rounding of a float computation is proportional to


def pools(book: Book) -> dict[str, Pool]:
    """Every pool of the book by its name."""
    return {name: pool_figures(book, name) for name in pool_names(book)}


def pool_names(book: Book) -> list[str]:
    if book.mode is Mode.MULTI_ASSETS:
        return ["USD"]
    assets = {asset for asset, wallet in book.wallets.items() if exact(wallet)}
    assets |= {book.margin_assets[leg.symbol] for leg in book.legs if not leg.isolated}
    return sorted(assets) + [leg.pool for leg in book.legs if leg.isolated]


def pool_figures(book: Book, name: str) -> Pool:
    wallets, legs = members(book, name)
    isolated = bool(legs) and legs[0].isolated
    figures = tuple(leg_figures(book, leg) for leg in legs)
    orders = {} if isolated else {asset: exact(book.open_orders.get(asset, "0")) for asset in wallets}
    equity = maintenance = initial = gross = Fraction(0)
    for asset, wallet in wallets.items():
        bid, ask = _rates(book, asset)
        mine = [each for each in figures if book.margin_assets[each.leg.symbol] == asset]
        asset_equity = wallet + sum(each.pnl for each in mine)
        equity += min(asset_equity * bid, asset_equity * ask)
        maintenance += ask * sum(each.maintenance for each in mine)
        initial += ask * (orders.get(asset, Fraction(0)) + sum(each.initial for each in mine))
        turnover = sum(abs(each.notional) + abs(exact(each.leg.quantity)) * exact(each.leg.entry) for each in mine)
        gross += ask * (abs(wallet) + turnover)
    ratio = Fraction(0) if not maintenance else maintenance / equity if equity > 0 else None
    return Pool(
        name,
        "USD" if book.mode is Mode.MULTI_ASSETS else next(iter(wallets)),
        equity,
        maintenance,
        initial,
        ratio,
        equity / maintenance if maintenance else None,
        None if isolated else max(Fraction(0), equity - initial),
        figures,
        gross,
    )


def leg_figures(book: Book, leg: Leg) -> LegFigures:
    quantity, mark = exact(leg.quantity), exact(book.marks[leg.symbol])
    notional = quantity * mark
    tiers = book.brackets[leg.symbol]
    number = tier_number(tiers, abs(notional))
    return LegFigures(
        leg,
        quantity * (mark - exact(leg.entry)),
        notional,
        abs(notional) * exact(tiers[number].rate) - exact(tiers[number].cum),
        abs(notional) / exact(book.leverages[leg.symbol]),
        number,
    )


def tier_number(tiers: tuple[Tier, ...], notional: Fraction) -> int:
    """The tier with floor < notional ≤ cap; above the last cap the last."""
    for number, tier in enumerate(tiers):
        if notional <= exact(tier.cap):
            return number
    return len(tiers) - 1


def surplus(book: Book, name: str, symbol: str, mark: Fraction) -> Fraction:
    """equity − maintenance margin of the pool if the symbol stood at this mark."""
    moved = replace(book, marks={**book.marks, symbol: str(mark)})
    pool = pool_figures(moved, name)
    return pool.equity - pool.maintenance


def liquidation_price(book: Book, name: str, symbol: str) -> Fraction | None:
    """The nearest mark of the symbol at which the pool is liquidated; None: there is none."""
    mark = exact(book.marks[symbol])
    return max(liquidation_marks(book, name, symbol), key=lambda p: min(p / mark, mark / p), default=None)


def liquidation_marks(book: Book, name: str, symbol: str) -> list[Fraction]:
    """Every positive mark at which equity = maintenance margin: each combination of tiers and of owned or owed is solved,
    and a solution counts if its own notionals lie in these tiers and its own equity has this sign."""
    wallets, legs = members(book, name)
    mine = [leg for leg in legs if leg.symbol == symbol]
    asset = book.margin_assets[symbol]
    rest = [leg_figures(book, leg) for leg in legs if leg.symbol != symbol]
    fixed = Fraction(0)
    for other, wallet in wallets.items():
        bid, ask = _rates(book, other)
        here = [each for each in rest if book.margin_assets[each.leg.symbol] == other]
        fixed -= ask * sum(each.maintenance for each in here)
        if other == asset:
            start = wallet + sum(each.pnl for each in here)
        else:
            other_equity = wallet + sum(each.pnl for each in here)
            fixed += min(other_equity * bid, other_equity * ask)
    bid, ask = _rates(book, asset)
    net = sum(exact(leg.quantity) for leg in mine)
    start -= sum(exact(leg.quantity) * exact(leg.entry) for leg in mine)
    last = len(book.brackets[symbol]) - 1
    solutions = []
    for rate, numbers in product({bid, ask}, product(range(last + 1), repeat=len(mine))):
        tiers = [book.brackets[symbol][number] for number in numbers]
        slope, level = rate * net, fixed + rate * start
        for leg, tier in zip(mine, tiers, strict=True):
            slope -= ask * abs(exact(leg.quantity)) * exact(tier.rate)
            level += ask * exact(tier.cum)
        if not slope or (price := -level / slope) <= 0:
            continue
        asset_equity = start + net * price
        if bid != ask and asset_equity and rate != (bid if asset_equity > 0 else ask):
            continue
        if all(_inside(book, leg, number, price) for leg, number in zip(mine, numbers, strict=True)):
            solutions.append(price)
    return solutions


def _inside(book: Book, leg: Leg, number: int, price: Fraction) -> bool:
    return tier_number(book.brackets[leg.symbol], abs(exact(leg.quantity)) * price) == number


def _rates(book: Book, asset: str) -> tuple[Fraction, Fraction]:
    if book.mode is Mode.SINGLE_ASSET:
        return Fraction(1), Fraction(1)
    _, bid, ask = book.rates[asset]
    return exact(bid), exact(ask)


def members(book: Book, name: str) -> tuple[dict[str, Fraction], list[Leg]]:
    """The wallets of a pool, by asset, and its legs."""
    for leg in book.legs:
        if leg.isolated and leg.pool == name:
            return {book.margin_assets[leg.symbol]: exact(leg.isolated_wallet)}, [leg]
    cross = [leg for leg in book.legs if not leg.isolated]
    if book.mode is Mode.SINGLE_ASSET:
        return {name: exact(book.wallets.get(name, "0"))}, [leg for leg in cross if book.margin_assets[leg.symbol] == name]
    assets = dict.fromkeys([*book.wallets, *(book.margin_assets[leg.symbol] for leg in cross)])
    return {asset: exact(book.wallets.get(asset, "0")) for asset in assets if asset not in book.not_collateral}, cross


# ------------------------------------------------------------------ random books

QUOTES = ("USDT", "USDC", "BTC")  # margin assets of positions
COLLATERAL = ("ETH", "BNB")  # only held
DEAD = "LDO"  # in the wallet, but no collateral


def books(legs_max: int = 300) -> st.SearchStrategy[Book]:
    """Books of 1..legs_max legs, small ones more often. Only size, mode and a seed are drawn: the same seed with fewer legs
    is a smaller book of the same kind, so that a failure shrinks, and 300 legs cost no search."""
    sizes = st.one_of(*(st.integers(1, min(top, legs_max)) for top in (6, 40, 40, 300)))
    return st.builds(random_book, st.integers(0, 2**32 - 1), sizes, st.sampled_from(Mode), st.booleans())


def random_book(seed: int, size: int, mode: Mode, hedge: bool) -> Book:
    rng = Random(f"{seed}")
    rates = {asset: _random_rate(rng, asset) for asset in (*QUOTES, *COLLATERAL, DEAD)}
    marks, before, margin_assets, brackets, leverages = {}, {}, {}, {}, {}
    legs: list[Leg] = []
    while len(legs) < size:
        rng = Random(f"{seed} {len(legs)}")  # each symbol by itself: a shorter book is the beginning of a longer one
        asset = rng.choices(QUOTES, (6, 3, 1))[0]
        symbol = f"C{len(legs)}{asset}"
        margin_assets[symbol] = asset
        brackets[symbol] = tiers = _random_tiers(rng, 1.0 if asset != "BTC" else 1e-5)
        leverages[symbol] = str(rng.randint(1, 125))
        marks[symbol] = mark = _random_mark(rng)
        before[symbol] = _decimal(float(mark) * math.exp(rng.gauss(0, 1)))
        isolated = mode is Mode.SINGLE_ASSET and rng.random() < 0.25
        sides = rng.choice((("LONG",), ("SHORT",), ("LONG", "SHORT"))) if hedge else ("BOTH",)
        legs += [_random_leg(rng, symbol, side, mark, tiers, isolated) for side in sides]
    book = Book(mode, hedge, {}, rates, tuple(legs[:size]), marks, margin_assets, brackets, leverages, marks_before=before)
    return _with_wallets(Random(f"{seed} wallets"), book)


def _random_rate(rng: Random, asset: str) -> tuple[str, str, str]:
    price, buffer = {"BTC": (60_000, "0.05"), "ETH": (2_500, "0.05"), "BNB": (600, "0.1")}.get(asset, (1, "0.0001"))
    index = Decimal(_decimal(price * rng.uniform(0.97, 1.03)))
    places = Decimal("1e-8")
    bid, ask = (index * (1 + sign * Decimal(buffer)) for sign in (-1, 1))
    return str(index), str(bid.quantize(places, ROUND_HALF_UP)), str(ask.quantize(places, ROUND_HALF_UP))


def _random_tiers(rng: Random, scale: float) -> tuple[Tier, ...]:
    """Ascending rates, and the deductions that make the tiers meet."""
    rate, floor, cum = Decimal(rng.randint(40, 200)) / 10_000, Decimal(0), Decimal(0)
    cap = Decimal(_decimal(rng.choice((5_000, 10_000, 50_000)) * scale))
    tiers = []
    for number in range(rng.randint(1, 12)):
        tiers.append(Tier(str(floor), str(cap), str(rate), str(cum), max(1, 125 >> number)))
        raised = min(rate * rng.choice((Decimal("1.25"), Decimal("1.5"), Decimal(2))), Decimal("0.5"))
        cum, floor, rate = cum + cap * (raised - rate), cap, raised
        cap *= rng.choice((2, 3, 5, 10))
    return tuple(tiers)


def _random_mark(rng: Random) -> str:
    return rng.choice(("0.5", "0.1", "4", "2500")) if rng.random() < 0.2 else _decimal(10 ** rng.uniform(-3, 5))


def _random_leg(rng: Random, symbol: str, side: str, mark: str, tiers: tuple[Tier, ...], isolated: bool) -> Leg:
    tier = rng.choice(tiers)
    floor, cap = float(tier.floor), float(tier.cap)
    if rng.random() < 0.15 and len(mark) <= 4:
        size = format(Decimal(tier.cap) / Decimal(mark), "f")  # a notional exactly on the border of two tiers
    else:
        size = _decimal(rng.uniform(max(floor, cap / 1000), cap * 1.2) / float(mark))
    short = side == "SHORT" or (side == "BOTH" and rng.random() < 0.5)
    entry = _decimal(float(mark) * math.exp(rng.gauss(0, 0.15)))
    wallet = _decimal(rng.uniform(0.01, 0.5) * float(size) * float(entry)) if isolated else "0"
    return Leg(symbol, side, f"-{size}" if short else size, entry, isolated, wallet)


def _with_wallets(rng: Random, book: Book) -> Book:
    """Wallets that leave each asset between deep under water and very safe, and debts beside surpluses."""
    wallets, orders = {}, {}
    figures = [leg_figures(book, leg) for leg in book.legs if not leg.isolated]
    for asset in QUOTES:
        mine = [each for each in figures if book.margin_assets[each.leg.symbol] == asset]
        if mine:
            pnl, required = (float(sum(part)) for part in zip(*((each.pnl, each.maintenance) for each in mine), strict=True))
            wallets[asset] = _decimal(rng.choice((-pnl, 0.0, abs(pnl))) + required * rng.choice((-0.5, 1, 3, 30)) * rng.random())
            orders[asset] = rng.choice(("0", _decimal(required * rng.random())))
    required_usd = sum(float(each.maintenance) * float(book.rates[book.margin_assets[each.leg.symbol]][0]) for each in figures)
    for asset in COLLATERAL if book.mode is Mode.SINGLE_ASSET else (*COLLATERAL, DEAD):
        worth = (required_usd + 1000) * rng.choice((-0.2, 0.0, 0.5, 5)) * rng.random()
        wallets[asset] = _decimal(worth / float(book.rates[asset][0]))
    return replace(book, wallets=wallets, open_orders=orders, not_collateral=frozenset({DEAD}))


def _decimal(value: float) -> str:
    """As the venue prints it: plain, at most 8 places; never 0 for a positive value."""
    text = format(value, ".8f").rstrip("0").rstrip(".")
    return "0.00000001" if value > 0 and not float(text) else text


# ------------------------------------------------------------------ the events that tell of a book


def events_of(book: Book, venue: str = "binance_usdm", account: str = "main", at_ms: int = 1_700_000_000_000) -> list[Event]:
    """Everything that the engine must hear to know the book, at venue times at_ms − 1000 … at_ms; the marks that count last."""
    assets = dict.fromkeys([*book.wallets, *book.rates, *book.margin_assets.values()])
    isolated = {asset: Fraction(0) for asset in assets}
    for leg in book.legs:
        isolated[book.margin_assets[leg.symbol]] += Fraction(leg.isolated_wallet)
    events: list[Event] = [
        Instruments(
            venue,
            tuple(Instrument(symbol, asset) for symbol, asset in book.margin_assets.items()),
            tuple(AssetInfo(asset, asset not in book.not_collateral) for asset in assets),
            complete=True,
        ),
        Brackets(venue, account, tuple(bracket_table(symbol, tiers) for symbol, tiers in book.brackets.items()), at_ms - 1000),
        AssetRates(
            venue,
            [AssetRate(a, float(index), float(bid), float(ask), at_ms) for a, (index, bid, ask) in book.rates.items()],
        ),
    ]
    if book.marks_before:
        events.append(_prices(venue, book.marks_before.items(), at_ms - 1000))
    events.append(
        AccountSnapshot(
            venue=venue,
            account=account,
            as_of_ms=at_ms - 500,
            mode=book.mode,
            hedge=book.hedge,
            balances=tuple(
                Balance(asset, float(Fraction(cross) + isolated[asset]), float(cross), at_ms - 5000)
                for asset, cross in ((asset, book.wallets.get(asset, "0")) for asset in assets)
            ),
            positions=tuple(_position(leg, book.margin_assets[leg.symbol], at_ms - 5000) for leg in book.legs),
            leverages={symbol: float(leverage) for symbol, leverage in book.leverages.items()},
            open_order_margins={asset: float(margin) for asset, margin in book.open_orders.items()},
            figures=(),
            implied_prices={},
        )
    )
    events.append(_prices(venue, book.marks.items(), at_ms))
    return events


def bracket_table(symbol: str, tiers: tuple[Tier, ...]) -> BracketTable:
    rows = (
        Bracket(number, float(tier.floor), float(tier.cap), float(tier.rate), float(tier.cum), float(tier.leverage))
        for number, tier in enumerate(tiers, start=1)
    )
    return BracketTable(symbol, tuple(rows))


def _prices(venue: str, marks: Iterable[tuple[str, str]], at_ms: int) -> Prices:
    return Prices(venue, PriceKind.MARK, [Price(symbol, float(mark), at_ms) for symbol, mark in marks])


def _position(leg: Leg, margin_asset: str, version_ms: int) -> Position:
    return Position(
        leg.symbol,
        leg.side,
        float(leg.quantity),
        float(leg.entry),
        version_ms,
        leg.isolated,
        float(leg.isolated_wallet),
        margin_asset,
    )
