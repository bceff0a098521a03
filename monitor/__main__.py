"""`python -m monitor` is `margin-monitor`."""

from monitor.cli import main

main()
