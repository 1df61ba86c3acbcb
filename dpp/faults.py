"""Faults: exceptions that mean an outage. A refusal is never one of them, it is a value.

Whoever asks a store rides out `StoreUnavailable` and asks again under the same identity. A helper
is no store: nothing waits for it, and nothing is decided by it that must be right.
"""


class StoreUnavailable(Exception):  # the name says what is the case, and users of the word are many
    """Nothing was committed, or it is unknown: ask again under the same identity."""


class Unanswered(StoreUnavailable):
    """The asker waited as long as anyone may; what was asked goes on, and may be done yet."""


class ClaimUnknown(StoreUnavailable):
    """The COMMIT of a claim got no answer: ask `claimed_under` before anything else is claimed."""


class StoreBroken(Exception):
    """No item of the batch can be to blame: schema, grants, or COMMIT refused.

    Whoever asks crashes under its restart limit; nothing is set aside for it.
    """


class PageBroken(StoreBroken):
    """The server met corruption: perhaps one page, and so one item; perhaps everything."""


class HelperUnavailable(Exception):
    """A helper (Redis, SQS) gave no answer, or none with sense: go on without. Never an outage."""


def told(error: BaseException) -> str:
    """Say what an error is in a line; the system's time-outs bring no words of their own."""
    said = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else "no more")
    return f"{type(error).__name__}: {said}"
