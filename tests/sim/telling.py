"""What an answer of the store says, in a few words for the trace."""

from __future__ import annotations

from enum import Enum
from typing import Any
from uuid import UUID

from dpp.claims import Claimed, Seen
from dpp.leases import Fence, Renewal
from dpp.runs import Run


def tell(answer: Any) -> str:
    """Return the kind of an answer, and which runs it is about."""
    match answer:
        case None | bool() | int() | str() | UUID() | Enum():
            return str(answer)
        case list() | tuple():
            return f"[{','.join(map(tell, answer))}]"
        case Claimed():
            return tell(answer.fence)
        case Fence() | Seen():
            return f"{answer.run_id}/{answer.lease_epoch}"
        case Renewal():
            return f"{answer.held}{tell(answer.fences)}"
        case Run():
            return f"{answer.run_id}:{answer.status}"
    run_id = getattr(answer, "run_id", "")
    return f"{type(answer).__name__}{run_id}"
