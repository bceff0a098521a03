"""How figures and levels look in a terminal: the words, signs and colours that all commands share."""

from monitor.model.alerts import Level

STYLES = {
    Level.UNKNOWN: "white on grey37",  # never green: unknown is not safe
    Level.OK: "green",
    Level.INFO: "cyan",
    Level.WARNING: "yellow",
    Level.HIGH: "dark_orange",
    Level.CRITICAL: "bold red",
    Level.EMERGENCY: "bold white on red",
    Level.LIQUIDATION: "bold white on dark_red",
}


def number(value: float | None, form: str) -> str:
    """A figure, or – where it is unknown."""
    return "–" if value is None else format(value, form)


def amount(value: float | None) -> str:
    """Money with cents, coins with four digits."""
    return "–" if value is None else f"{value:,.2f}" if abs(value) >= 100 else f"{value:,.4g}"


def length(length_ms: float) -> str:
    """A time of minutes or hours."""
    minutes = int(max(length_ms, 0) // 60_000)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def printable(line: str) -> str:
    """For a terminal: no text of a venue or of a person moves its cursor."""
    return "".join(char if char.isprintable() else " " for char in line)
