"""Fixtures of the end-to-end tests; what they use is in conftest_e2e.py, importable by name."""

from conftest_e2e import receiver

__all__ = ["receiver"]
