"""The receiver of the end-to-end tests serves here too."""

from e2e.conftest_e2e import receiver

__all__ = ["receiver"]
