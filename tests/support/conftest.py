"""The tests of the warping loop run in it."""

from warping import warped as pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
