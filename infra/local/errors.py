"""What can go wrong with an embedded stack, as sentences with a way out."""


class StackError(Exception):
    """The stack did not do what was asked; the message says what happened and where to look."""


class Missing(Exception):
    """Something is missing on this machine; the message says what, `fix` says what to do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class NotRunning(Missing):
    """No stack runs for this home."""

    def __init__(self, home: object) -> None:
        super().__init__(f"No stack runs for the home {home}.", "Start one: wardstream up --detach")
