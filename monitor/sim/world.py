"""The one market behind all simulated venues: what each coin is worth in USD, second by second."""

import math
import random

from monitor.sim.scenarios import Scenario

STABLE = frozenset({"USDT", "USDC", "FDUSD", "BFUSD"})

# Start values in USD and how hard a coin follows the market.
COINS_USD: dict[str, tuple[float, float]] = {
    "BTC": (97_250.0, 1.0),
    "ETH": (3_412.0, 1.15),
    "BNB": (684.0, 1.0),
    "SOL": (191.3, 1.25),
    "XRP": (2.214, 1.2),
    "DOGE": (0.3121, 1.3),
    "ADA": (0.8731, 1.3),
    "AVAX": (37.42, 1.35),
    "LINK": (21.84, 1.3),
    "DOT": (6.93, 1.3),
    "LTC": (104.7, 1.1),
    "BCH": (437.5, 1.1),
    "TRX": (0.2531, 0.8),
    "UNI": (13.27, 1.35),
    "SUI": (4.127, 1.45),
    "APT": (8.94, 1.4),
    "ARB": (0.7284, 1.4),
    "NEAR": (5.217, 1.4),
    "AAVE": (318.6, 1.35),
    "ENA": (0.9372, 1.5),
    "1000PEPE": (0.01792, 1.6),
    "1000SHIB": (0.02147, 1.45),
    "USDT": (0.99962, 0.0),
    "USDC": (0.99994, 0.0),
    "FDUSD": (0.99871, 0.0),
    "BFUSD": (0.99935, 0.0),
}


class World:
    """Coins follow the scenario's path with bounded noise around it (an Ornstein–Uhlenbeck walk), so that a scenario
    ends where it should for every seed."""

    def __init__(self, seed: int, scenario: Scenario, noise: float = 1.0) -> None:
        self.random = random.Random(f"world:{seed}")
        self.scenario = scenario
        self.noise = noise  # 0: prices move by the scenario alone
        self.ticks = 0
        self._beta = {coin: beta for coin, (_, beta) in COINS_USD.items()}
        self._noise = dict.fromkeys(COINS_USD, 0.0)

    def add_coin(self, coin: str, beta: float) -> None:
        self._beta[coin] = beta
        self._noise[coin] = 0.0

    def tick(self) -> dict[str, float]:
        """One simulated second. Returns by which factor each coin's USD price moved; a factor, so that prices set by hand
        move on from where they were set."""
        before, now = self.ticks, self.ticks + 1
        self.ticks = now
        market = self.scenario.market(now) - self.scenario.market(before)
        factors: dict[str, float] = {}
        for coin, beta in self._beta.items():
            size = 0.000_01 if coin in STABLE else 0.000_15
            noise = 0.9 * self._noise[coin] + self.random.gauss(0.0, size) * self.noise
            move = beta * market + noise - self._noise[coin]
            own = self.scenario.own.get(coin)
            if own is not None:
                move += own(now) - own(before)
            self._noise[coin] = noise
            factors[coin] = math.exp(move)
        return factors
