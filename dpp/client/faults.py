"""What can go wrong for a client: nobody there, an answer that is none of DPP's, or a problem.

A problem (RFC 9457) is the server's own "no" and comes with everything it said. All of these are
raised once the retries are used up, never in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

KNOWN = frozenset({"type", "title", "status", "detail", "instance", "request_id", "errors"})


@frozen
class FieldError:
    """One thing wrong with a request: a JSON pointer into the body, and what is allowed there."""

    pointer: str
    message: str


@frozen
class Problem:
    """A problem document; `members` are those that its type adds, such as `available_usd`."""

    type: str
    title: str
    status: int
    detail: str = ""
    request_id: str = ""
    errors: tuple[FieldError, ...] = ()
    members: Mapping[str, Any] = field(factory=dict)
    document: Mapping[str, Any] = field(factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Return the last word of the type: "budget-exceeded"."""
        return self.type.rstrip("/").rpartition("/")[2].rpartition("#")[2]

    @classmethod
    def of(cls, document: Mapping[str, Any], status: int) -> Problem:
        """Read a problem leniently: one that is not well said is no reason to crash."""
        errors = document.get("errors")
        return cls(
            type=str(document.get("type", "about:blank")),
            title=str(document.get("title", "")),
            status=status,
            detail=str(document.get("detail", "")),
            request_id=str(document.get("request_id", "")),
            errors=tuple(
                FieldError(str(error.get("pointer", "")), str(error.get("message", "")))
                for error in (errors if isinstance(errors, list) else ())
                if isinstance(error, dict)
            ),
            members={name: document[name] for name in document if name not in KNOWN},
            document=dict(document),
        )


class ClientError(Exception):
    """The base of all that a client raises."""


class NotAUrl(ClientError):
    """What was named as the URL of a node is none; nothing was asked."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is not the URL of a node")
        self.url = url


class Unreachable(ClientError):
    """No answer came from `url`: nothing listens there, it hung up, or it took too long."""

    def __init__(self, url: str, why: str, *, sent: bool) -> None:
        super().__init__(f"{url} does not answer: {why}")
        self.url, self.why = url, why
        self.sent = sent  # the request may have been carried out


class BadAnswer(ClientError):
    """Something answered at `url`, but not as DPP does: a proxy, or another service."""

    def __init__(self, url: str, status: int, why: str) -> None:
        super().__init__(f"{url} answered {status}, {why}")
        self.url, self.status, self.why = url, status, why


class Refused(ClientError):
    """The server answered with a problem; `retry_after_s` is what it said, if it did."""

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail or problem.title or f"status {problem.status}")
        self.problem, self.retry_after_s = problem, retry_after_s
