"""The command line.

Exit codes: 0 ok, 1 failure while running, 2 wrong usage or configuration, 3 a check failed. An error is a line with the cause and
one with a hint, never a traceback.
"""

# Each module brings its commands; the order is that of the help page, and of a newcomer's way.
from monitor.commands import trial  # noqa: F401, I001
from monitor.commands import init  # noqa: F401
from monitor.commands import setup  # noqa: F401
from monitor.commands import run  # noqa: F401
from monitor.commands import remote  # noqa: F401
from monitor.commands import healthcheck  # noqa: F401
from monitor.commands.base import app


def main() -> None:
    """Entry point of the script `margin-monitor`."""
    app()
