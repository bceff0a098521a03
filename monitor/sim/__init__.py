"""A simulated exchange on loopback that speaks what the venues document. Imports nothing of the monitor it is to test."""

from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange, serve

__all__ = ["SimAccount", "SimExchange", "SimPosition", "serve"]
