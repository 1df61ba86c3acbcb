"""Failpoints: named places where a node can be made to fail, to see that nothing leaks there.

Always compiled in and inert: `hit` looks at an empty dictionary. `[testing] failpoints` arms them,
as `NAME:ACTION` or `NAME:ACTION@N` for the N-th time that the place is reached; the production
profile refuses that. Every transaction has three places of its own: before BEGIN, before COMMIT,
and after COMMIT was answered, when nobody has heard of it yet.
"""

import os
import signal
from collections.abc import Callable, Iterable
from typing import Final

from attrs import define

TRANSACTIONS: Final = (
    "submit",
    "claim",
    "ask_claim",
    "settle",
    "take_back",
    "expire",
    "cancel",
    "take_lease",
    "renew_lease",
    "end_lease",
    "end_earlier",
    "reap_lease",
    "mark_storing",
    "transfer",
    "quarantine",
    "open_findings",
    "resolve",
    "claim_deliveries",
    "mark_deliveries",
    "close_books",
    "prune",
)
MOMENTS: Final = ("begin", "before_commit", "after_commit")
POINTS: Final = frozenset(f"{name}.{moment}" for name in TRANSACTIONS for moment in MOMENTS) | {
    "execute.before_pack",
    "execute.after_pack",
    "deliver.after_mark",
    "deliver.after_put",
    "courier.before_post",
    "courier.after_post",
    "drain.begin",
    "drain.before_end_lease",
}
KILLED: Final = 137  # the status of a process that SIGKILL ended


class Hit(Exception):  # what a failpoint does, and no error of anybody
    """A failpoint raised."""


@define
class Armed:
    """One armed place; it fires once, at the `nth` time that it is reached."""

    action: str
    nth: int = 1
    reached: int = 0


_armed: dict[str, Armed] = {}


def arm(specs: Iterable[str]) -> None:
    """Arm these places and no others; raises ValueError that says what is wrong with a spec."""
    armed = dict(map(parse, specs))
    _armed.clear()
    _armed.update(armed)


def parse(spec: str) -> tuple[str, Armed]:
    """Read `NAME:ACTION` or `NAME:ACTION@N`."""
    name, _, rest = spec.partition(":")
    action, _, nth = rest.partition("@")
    if name not in POINTS:
        raise ValueError(f"{spec!r}: there is no failpoint {name!r}")
    if action not in ACTIONS:
        raise ValueError(f"{spec!r}: the action must be one of {', '.join(ACTIONS)}")
    if nth and not (nth.isdecimal() and int(nth) > 0):
        raise ValueError(f"{spec!r}: after @ stands how many times it is reached, from 1")
    return name, Armed(action, int(nth or 1))


def hit(name: str, drop: Callable[[], object] | None = None) -> None:
    """Be at a place. `drop`: cuts the connection that is worked on here."""
    if _armed:
        _reach(name, drop)


def _reach(name: str, drop: Callable[[], object] | None) -> None:
    assert name in POINTS, name
    armed = _armed.get(name)
    if armed is None:
        return
    armed.reached += 1
    if armed.reached == armed.nth:
        ACTIONS[armed.action](name, drop)


def _raise(name: str, _: object) -> None:
    raise Hit(name)


def _exit(_: str, __: object) -> None:
    os._exit(KILLED)  # nothing is closed, flushed or rolled back: as SIGKILL leaves it


def _stop(_: str, __: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)  # the whole process, until somebody sends SIGCONT


def _drop(name: str, drop: Callable[[], object] | None) -> None:
    assert drop is not None, f"no connection is worked on at {name}"
    drop()


ACTIONS: Final[dict[str, Callable[[str, Callable[[], object] | None], None]]] = {
    "raise": _raise,
    "exit": _exit,
    "stop": _stop,
    "drop": _drop,
}
