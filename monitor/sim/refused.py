"""What a simulated venue answers to a change that it does not allow."""


class RefusedError(Exception):
    """The exchange refuses a change: its code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
