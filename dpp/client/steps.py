"""Operations as steps: what a client does, written once, for threads and for every kind of loop.

An operation is a generator. It yields what it needs done (send this, read on, pause) and is sent
what came of it; a fault of the network is thrown into it where it asked. So retries, paging and
resumed streams are plain code that touches no socket and no clock, and a shell that runs it
(`blocking`, `awaiting`) knows nothing of DPP: it does one step after the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from attrs import define, field, frozen

from dpp.client.retries import Retries

if TYPE_CHECKING:
    from dpp.client.faults import ClientError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@frozen
class Request:
    """One HTTP request. `url` is a path below the base URL, or whole."""

    method: str
    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(factory=dict)
    content: bytes | None = None
    repeatable: bool = False  # asked twice does the same as once
    wait_s: float = 0  # how long the server was asked to wait before it answers
    signed: bool = True  # with the key; a presigned URL of somebody else must not see it


@frozen
class Reply:
    """What came back; of an open stream that went well the content is still to be read."""

    url: str
    status: int
    headers: Mapping[str, str]  # names in small letters
    content: bytes = field(default=b"", repr=False)


@frozen
class Ask:
    """Send a request and read the whole answer; is sent the `Reply`."""

    request: Request


@frozen
class Open:
    """Send a request and leave the answer open if it is a 2xx; is sent the `Reply`."""

    request: Request


@frozen
class Read:
    """Read on in what is open; is sent bytes, none of them at the end."""


@frozen
class Shut:
    """Close what is open, if anything is."""


@frozen
class Keep:
    """Add bytes to the file of a download."""

    piece: bytes


@frozen
class Forget:
    """Empty the file of a download: it begins again."""


@frozen
class Pause:
    """Wait."""

    seconds: float


@frozen
class Now:
    """Look at the clock of waiting; is sent seconds, from any beginning."""


@frozen
class Item(Generic[T_co]):
    """Hand one of many values to who iterates."""

    value: T_co


Step: TypeAlias = Ask | Open | Read | Shut | Keep | Forget | Pause | Now
Steps: TypeAlias = Generator[Step, Any, T]
Items: TypeAlias = Generator[Step | Item[T], Any, None]


@frozen
class Done(Generic[T_co]):
    """The operation has ended and returns this."""

    value: T_co


@define(eq=False)
class Play(Generic[T]):
    """An operation under way: what came of one step goes in, the next step comes out."""

    _steps: Generator[Step | Item[Any], Any, T]

    def go(self, came: object = None) -> Step | Item[Any] | Done[T]:
        """Say what came of the last step; the first time nothing did."""
        try:
            return self._steps.send(came)
        except StopIteration as end:
            return Done(end.value)

    def fail(self, failure: ClientError) -> Step | Item[Any] | Done[T]:
        """Say that the last step failed; what the operation does not take comes out again."""
        try:
            return self._steps.throw(failure)
        except StopIteration as end:
            return Done(end.value)

    def close(self) -> None:
        """Give up; what is not done stays undone."""
        self._steps.close()


@define(eq=False)
class Context:
    """What the operations of one client share.

    `reached`: something answered at least once. `long_s`: the longest wait to ask of the server.
    """

    retries: Retries
    on_retry: Callable[[ClientError, float], None] | None = None
    dice: Callable[[], float] = random.random
    reached: bool = False
    long_s: int = 30  # shorter than any proxy on the way is patient


def now() -> Steps[float]:
    """Return the time on the clock of waiting."""
    time: float = yield Now()
    return time


def read() -> Steps[bytes]:
    """Return the next bytes of what is open; none = the end."""
    piece: bytes = yield Read()
    return piece
