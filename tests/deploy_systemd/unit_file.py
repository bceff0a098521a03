"""The unit as systemd reads it: sections, keys in their order, lists that an empty value clears."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

UNIT = Path(__file__).resolve().parents[2] / "deploy/systemd/margin-monitor.service"
COMMAND = "/opt/margin-monitor/bin/margin-monitor"


def settings(path: Path = UNIT) -> dict[tuple[str, str], list[str]]:
    """By (section, key) all its values. Raises ValueError for a line that is none of comment, section, setting."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    section = ""
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif match := re.fullmatch(r"(\w+)=(.*)", line):
            found[section, match[1]].append(match[2])
        else:
            raise ValueError(f"{path.name}: {line!r}")
    return dict(found)


def service(key: str) -> list[str]:
    """The values of a key of [Service]; KeyError if it is absent."""
    return settings()["Service", key]


def one(key: str) -> str:
    (value,) = service(key)
    return value
