"""The lanes of an actor as those who ask see them, and as the node starts them."""

from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeAlias, TypeVar
from zlib import crc32

import trio

from dpp.actors.mailbox import Mailbox, weightless
from dpp.actors.supervisor import GiveUp, supervise

Request = TypeVar("Request")
Answer = TypeVar("Answer")
LaneActor: TypeAlias = Callable[[Mailbox[Request, Answer]], Awaitable[None]]


class Lanes(Generic[Request, Answer]):
    """One mailbox a lane. Leaving its `async with` block closes them."""

    def __init__(
        self, lanes: int, capacity: int, weigh: Callable[[Request], int] = weightless
    ) -> None:
        """`capacity`: of each mailbox, in calls; `weigh`: the bytes that a call carries."""
        self.mailboxes: tuple[Mailbox[Request, Answer], ...] = tuple(
            Mailbox(capacity, weigh) for _ in range(lanes)
        )

    def of(self, tenant_id: str) -> Mailbox[Request, Answer]:
        """Return the tenant's mailbox: always the same one, so that its batches are large."""
        return self.mailboxes[crc32(tenant_id.encode()) % len(self.mailboxes)]

    def close(self) -> None:
        """Refuse new calls; the lanes end after what they have."""
        for mailbox in self.mailboxes:
            mailbox.close()

    async def __aenter__(self) -> Self:
        return self  # noqa: ASYNC910  # the same

    async def __aexit__(  # noqa: ASYNC910  # it closes and waits for nobody
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def keep_lanes(
    name: str, lanes: Lanes[Request, Answer], actor: LaneActor[Request, Answer], give_up: GiveUp
) -> None:
    """Keep an `actor` running behind each mailbox until that is closed and empty.

    One that gives up drops what waits in its mailbox and refuses the rest.
    """

    def abandon(mailbox: Mailbox[Request, Answer], bug: BaseException) -> None:
        mailbox.abandon()
        give_up(bug)

    async with trio.open_nursery() as nursery:
        for mailbox in lanes.mailboxes:
            nursery.start_soon(supervise, name, partial(actor, mailbox), partial(abandon, mailbox))
