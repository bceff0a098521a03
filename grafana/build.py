"""Writes grafana/dashboards/*.json: python -m grafana.build, or `make dashboards`."""

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.overview import overview
from grafana.pool import pool

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, Dashboard]:
    """By the name of their file."""
    return {"overview.json": overview(), "pool.json": pool()}


def text(dashboard: Dashboard) -> str:
    """The JSON that Grafana reads; the same for the same dashboard."""
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(dashboard.build()) + "\n"


def main() -> None:
    for name, dashboard in dashboards().items():
        (FOLDER / name).write_text(text(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
