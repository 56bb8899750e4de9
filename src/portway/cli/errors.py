"""The error type of the command line: a sentence for the user and the exit code that goes with it."""


class UserError(Exception):
    """What the user asked for cannot be had; one line with the cure. `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
