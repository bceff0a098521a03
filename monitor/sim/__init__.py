"""A simulated exchange on loopback that speaks what the venues document. Imports nothing of the monitor it is to test."""

from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange, serve
from monitor.sim.htx.account import SimHtxAccount, SimHtxPosition

__all__ = ["SimAccount", "SimExchange", "SimHtxAccount", "SimHtxPosition", "SimPosition", "serve"]
