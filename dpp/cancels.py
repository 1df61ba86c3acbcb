"""Cancels: what may come of one."""

from typing import TypeAlias

from attrs import frozen

from dpp.runs import Run


@frozen
class CancelAsked:
    """The run is being executed; its node will feel it."""

    run: Run


@frozen
class Ended:
    """The run is terminal: ended by this cancel, or before it."""

    run: Run


@frozen
class RunUnknown:
    """The tenant has no such run."""


CancelOutcome: TypeAlias = CancelAsked | Ended | RunUnknown
