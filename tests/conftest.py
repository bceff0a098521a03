"""What all tests share: where the project is, where the recordings are, and how hard hypothesis searches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

IN_CI = bool(os.environ.get("CI"))

# On a shared machine a slow example says nothing about the code: no deadline in either profile.
settings.register_profile("dev", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", max_examples=1000, deadline=None, derandomize=False, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if IN_CI else "dev")


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds `pyproject.toml`."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared(project_root: Path) -> Path:
    """The recordings and references, in the folder `shared` beside the project. They are no part of it."""
    folder = project_root.parent / "shared"
    if folder.is_dir():
        return folder
    reason = "no recordings: the folder `shared` beside the project is absent"
    if IN_CI:
        pytest.fail(reason)  # a green run without them would prove too little
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs the recordings, so that `-m 'not shared'` leaves it out."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")
