"""`python -m monitor.sim`: the simulated exchange by itself."""

import argparse
import asyncio
import contextlib

from monitor.sim.exchange import serve
from monitor.sim.scenarios import SCENARIOS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m monitor.sim", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one; the first line printed names it")
    parser.add_argument("--htx-port", type=int, default=0, help="of the second venue, in the same way")
    parser.add_argument("--scenario", default="calm", help=", ".join(SCENARIOS))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--seconds", type=float, help="stop after so many real seconds")
    parser.add_argument("--symbols", type=int, default=0, help="pad the universe to so many contracts")
    parser.add_argument("--tick-seconds", type=float, default=1.0, help="real seconds per simulated second")
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            serve(
                args.port,
                args.scenario,
                args.seed,
                args.seconds,
                host=args.host,
                symbols=args.symbols,
                tick_seconds=args.tick_seconds,
                htx_port=args.htx_port,
            )
        )


if __name__ == "__main__":
    main()
