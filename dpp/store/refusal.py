"""A start that is refused: what is wrong, what DPP did about it, and what to do.

For what a restart does not mend; the command ends with status 78. Part of no layer of the store, so
that whoever looks before the start may raise it.
"""

UNCHANGED = "DPP did not start, and changed nothing."


class StartRefused(Exception):  # a refusal to start, with a remedy
    """The node, or the command, does not start on this database."""

    def __init__(self, what: str, remedy: str, did: str = UNCHANGED) -> None:
        super().__init__(f"{what} {remedy}")
        self.what, self.remedy, self.did = what, remedy, did
