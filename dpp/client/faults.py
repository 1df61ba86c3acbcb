"""What can go wrong for a client, one class a meaning. All of it is a `ClientError`.

    TransportError          no answer came: whether the request was carried out is not known
    BadAnswer               something answered, but not as DPP does
    ApiProblem              the server's own "no" (RFC 9457), with all that it said; below it one
                            class for each thing that a program may want to do about it
    WaitTimedOut            the run has not ended in the time that was given
    SignatureInvalid        a webhook that was not signed with this secret, or not just now
    Misconfigured           nothing was asked: no URL, no key, or words that cannot be sent

They are raised once the retries are used up, never in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

if TYPE_CHECKING:
    from dpp.client.values import Run

KNOWN = frozenset({"type", "title", "status", "detail", "instance", "request_id", "errors"})
SERVER_ERRORS = 500


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


class Misconfigured(ClientError, ValueError):
    """What was given cannot be used to ask anything; nothing was asked."""


class NotAUrl(Misconfigured):
    """What was named as the URL of a node is none."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is not the URL of a node")
        self.url = url


class TransportError(ClientError):
    """No answer came from `url`: nothing listens there, it hung up, or it took too long.

    `sent`: the request may have been carried out. A submit asked again under the same idempotency
    key tells, and never buys twice.
    """

    def __init__(self, url: str, why: str, *, sent: bool) -> None:
        super().__init__(f"{url} does not answer: {why}")
        self.url, self.why, self.sent = url, why, sent


class CertificateNotTrusted(TransportError):
    """`url` answers over TLS, with a certificate that cannot be believed; nothing was asked.

    `why`: what was wrong with it. SSL_CERT_FILE names who else is to be believed.
    """

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, f"its certificate is not trusted: {why}", sent=False)
        self.why = why


class BadAnswer(ClientError):
    """Something answered at `url`, but not as DPP does: a proxy, or another service."""

    def __init__(
        self, url: str, status: int, why: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{url} answered {status}, {why}")
        self.url, self.status, self.why = url, status, why
        self.retry_after_s = retry_after_s


class DigestMismatch(BadAnswer):
    """The bytes of a result are not those that its digest names."""


class WaitTimedOut(ClientError, TimeoutError):
    """The run goes on; `run` is what was last known of it. Waiting again is free."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"run {run.run_id} is {run.status} and has not ended in time")
        self.run = run


class SignatureInvalid(ClientError, ValueError):
    """Do not believe this webhook: it is not signed with the secret, or too old, or too new."""


class ApiProblem(ClientError):
    """The server answered with a problem; `retry_after_s` is what it said, if it did."""

    names: ClassVar[tuple[str, ...]] = ()  # last words of the types that raise this class

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail or problem.title or f"status {problem.status}")
        self.problem, self.retry_after_s = problem, retry_after_s

    @property
    def type(self) -> str:
        return self.problem.type

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def detail(self) -> str:
        return self.problem.detail

    @property
    def members(self) -> Mapping[str, Any]:
        return self.problem.members

    @property
    def request_id(self) -> str:
        """Return what names the request in the server's log."""
        return self.problem.request_id

    def usd(self, member: str) -> Decimal | None:
        """Return a member as money; None if it is not said."""
        try:
            return Decimal(str(self.members[member]))
        except (KeyError, InvalidOperation):
            return None


class InvalidRequest(ApiProblem):
    """The request is wrong and will be wrong again; `errors` names all of it."""

    names = ("invalid-request", "malformed-json", "idempotency-key-invalid")

    @property
    def errors(self) -> tuple[FieldError, ...]:
        return self.problem.errors


class IdempotencyKeyReused(ApiProblem):
    """The key has named another submission before: nothing was bought."""

    names = ("idempotency-key-reused",)


class Unauthorized(ApiProblem):
    """The API key is unknown, wrong, revoked or expired; the server does not say which."""

    names = ("unauthorized",)


class Forbidden(ApiProblem):
    """The key or the tenant may not do this."""

    names = ("forbidden",)


class PackNotAllowed(Forbidden):
    """The plan does not include the pack."""

    names = ("pack-not-allowed",)


class TenantSuspended(Forbidden):
    """An operator has stopped the tenant's new submissions."""

    names = ("tenant-suspended",)


class TenantFrozen(Forbidden):
    """The tenant's books are being looked at: no new submissions, accepted runs go on."""

    names = ("tenant-frozen",)


class NotFound(ApiProblem):
    """There is no such thing for this tenant."""

    names = ("not-found",)


class BudgetExceeded(ApiProblem):
    """The available budget does not cover what the submission reserves."""

    names = ("budget-exceeded",)

    @property
    def available_usd(self) -> Decimal | None:
        return self.usd("available_usd")

    @property
    def required_usd(self) -> Decimal | None:
        return self.usd("required_usd")


class SpendLimitExceeded(ApiProblem):
    """A limit on spending is used up: `members` has `limit`, `limit_usd` and `resets_at`."""

    names = ("spend-limit-exceeded",)


class MaxCostRefused(ApiProblem):
    """`max_cost` is below what the run must reserve, or above the plan's cap."""

    names = ("max-cost-too-low", "max-cost-too-high")


class PackUnknown(ApiProblem):
    """There is no such pack; `members` has `allowed`."""

    names = ("pack-unknown",)


class QuotaExceeded(ApiProblem):
    """A rate or the length of the queue is used up; `retry_after_s` says for how long."""

    names = ("quota-exceeded",)


class RunNotFinished(ApiProblem):
    """The run has no result and no receipt yet: wait for its end."""

    names = ("run-not-finished",)


class Expired(ApiProblem):
    """It was there, and is kept no longer."""

    names = ("result-expired", "run-expired")


class Unavailable(ApiProblem):
    """The server could not get it done now: nothing is known to have happened, ask the same."""

    names = ("temporary-reduced-capacity",)


class InternalError(ApiProblem):
    """A bug of the server; its log has the cause under `request_id`."""

    names = ("internal-error",)


def api_problem(problem: Problem, *, retry_after_s: float | None = None) -> ApiProblem:
    """Return the exception for a problem: by its type, else by its status, else `ApiProblem`."""
    known = BY_NAME.get(problem.name) or BY_STATUS.get(problem.status)
    if known is None:
        known = InternalError if problem.status >= SERVER_ERRORS else ApiProblem
    return known(problem, retry_after_s=retry_after_s)


def _classes(base: type[ApiProblem]) -> list[type[ApiProblem]]:
    return [base, *(one for sub in base.__subclasses__() for one in _classes(sub))]


BY_NAME: Mapping[str, type[ApiProblem]] = {
    name: one for one in _classes(ApiProblem) for name in one.names
}
# What a proxy, or a type that is newer than this client, most likely means.
BY_STATUS: Mapping[int, type[ApiProblem]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    410: Expired,
    422: InvalidRequest,
    429: QuotaExceeded,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
