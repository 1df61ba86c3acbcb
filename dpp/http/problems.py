"""Problems (RFC 9457): the only place that makes them.

The registry is data: name → type URI, status, title, and the members that a problem of the type may
carry beside the standard ones. A handler answers with a `Problem`, a refusal as a value; the
dispatcher adds who asked (`instance`, `request_id`) and writes it out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from attrs import field, frozen

from dpp.http.answers import NO_STORE, PROBLEM_JSON, Answer, Header
from dpp.packs.members import first_errors
from dpp.pricing import InputError

BASE: Final = "https://dpp.dev/problems/"
IANA: Final = "https://iana.org/assignments/http-problem-types#"
RETRY_S: Final = (
    1  # the least that a client waits after a 503; what is away is mostly back after one poll
)
TEXT_MAX: Final = 1000  # characters of a pointer or a message: our own are far shorter


@frozen
class ProblemType:
    """One row of the registry."""

    status: int
    title: str
    members: tuple[str, ...] = ()
    base: str = BASE


TYPES: Final[Mapping[str, ProblemType]] = {
    "malformed-http": ProblemType(400, "The request is not valid HTTP/1.1"),
    "malformed-json": ProblemType(400, "The body is not valid JSON"),
    "idempotency-key-missing": ProblemType(400, "The Idempotency-Key header is missing"),
    "idempotency-key-invalid": ProblemType(400, "The idempotency key is not valid"),
    "unauthorized": ProblemType(401, "A valid key or token is required"),
    "budget-exceeded": ProblemType(
        402, "The available budget does not cover this", ("available_usd", "required_usd")
    ),
    "spend-limit-exceeded": ProblemType(
        402, "A spend limit does not cover this", ("limit", "limit_usd", "resets_at")
    ),
    "forbidden": ProblemType(403, "The API key does not have the scope for this"),
    "pack-not-allowed": ProblemType(403, "The plan does not include this pack", ("allowed",)),
    "tenant-suspended": ProblemType(403, "The tenant is suspended"),
    "tenant-frozen": ProblemType(403, "The tenant's new submissions are frozen"),
    "not-found": ProblemType(404, "There is nothing here"),
    "method-not-allowed": ProblemType(405, "The method is not allowed here"),
    "not-acceptable": ProblemType(406, "Only JSON can be answered here"),
    "request-timeout": ProblemType(408, "The request did not arrive in time"),
    "tenant-exists": ProblemType(409, "There is a tenant of this name already"),
    "run-not-finished": ProblemType(409, "The run has not ended", ("run_status",)),
    "run-ended": ProblemType(409, "The run has ended", ("run_status", "actual_usd")),
    "finding-resolved": ProblemType(409, "The finding is resolved already"),
    "resolution-refused": ProblemType(409, "The database refuses to resolve the finding"),
    "resolution-unfit": ProblemType(409, "This does not mend the finding"),
    "result-expired": ProblemType(410, "The result is past retention", ("archived",)),
    "run-expired": ProblemType(410, "The run is past retention", ("run_id",)),
    "key-limit-reached": ProblemType(409, "The tenant has as many keys as it may", ("keys_max",)),
    "webhook-limit-reached": ProblemType(
        409, "The tenant has as many webhooks as it may have", ("webhooks_max",)
    ),
    "webhook-disabled": ProblemType(409, "The webhook is disabled"),
    "payload-too-large": ProblemType(413, "The body is too large"),
    "uri-too-long": ProblemType(414, "The request target is too long"),
    "unsupported-media-type": ProblemType(415, "The body must be JSON"),
    "range-not-satisfiable": ProblemType(416, "The range has no byte of this"),
    "expectation-failed": ProblemType(417, "The expectation cannot be met"),
    "invalid-request": ProblemType(422, "The request is not valid", ("errors",)),
    "idempotency-key-reused": ProblemType(422, "The idempotency key names another request"),
    "reference-reused": ProblemType(422, "The reference names another transfer"),
    "refund-too-high": ProblemType(
        422, "The run did not cost that much", ("cost_usd", "refunded_usd", "left_usd")
    ),
    "max-cost-too-low": ProblemType(422, "max_cost_usd is too low", ("required_usd",)),
    "max-cost-too-high": ProblemType(422, "max_cost_usd is too high", ("limit_usd",)),
    "pack-unknown": ProblemType(422, "There is no such pack", ("allowed",)),
    "quota-exceeded": ProblemType(
        429,
        "Request cannot be satisfied as assigned quota has been exceeded",
        ("violated-policies", "retry_after_s"),
        base=IANA,
    ),
    "headers-too-large": ProblemType(431, "The request's headers are too large"),
    "internal-error": ProblemType(500, "Something went wrong here"),
    "temporary-reduced-capacity": ProblemType(
        503,
        "Request cannot be satisfied due to temporary server capacity constraints",
        ("retry_after_s",),
        base=IANA,
    ),
}


@frozen
class Problem:
    """A refusal on its way to the client."""

    name: str
    detail: str
    members: Mapping[str, Any] = field(factory=dict)
    headers: tuple[Header, ...] = ()

    @property
    def type(self) -> ProblemType:
        """Return its row of the registry."""
        return TYPES[self.name]


def invalid(errors: Iterable[InputError]) -> Problem:
    """Return the problem that lists what is wrong with a request, bounded whoever says it."""
    listed = [
        {"pointer": error.pointer[:TEXT_MAX], "message": error.message[:TEXT_MAX]}
        for error in first_errors(errors, "")
    ]
    assert listed
    one = f"{listed[0]['pointer'] or 'the body'} {listed[0]['message']}"
    detail = one if len(listed) == 1 else f"{len(listed)} errors; the first: {one}"
    return Problem("invalid-request", detail, {"errors": listed})


def unauthorized(
    detail: str = "Send a valid key as Authorization: Bearer dpp_live_…",
) -> Problem:
    """Return the one answer to any bad key: it does not say what is wrong with it."""
    challenge = (b"www-authenticate", b'Bearer realm="dpp"')
    return Problem("unauthorized", detail, headers=(challenge,))


def method_not_allowed(allow: bytes) -> Problem:
    """Return the problem of a known path and a method that it does not have."""
    detail = f"allowed here: {allow.decode('ascii')}"
    return Problem("method-not-allowed", detail, headers=((b"allow", allow),))


def over_quota(policy: str, detail: str, retry_s: int, headers: tuple[Header, ...] = ()) -> Problem:
    """Return the problem of a limit that was hit; it names the limit and says when to come back."""
    return _later("quota-exceeded", detail, retry_s, {"violated-policies": [policy]}, headers)


def unavailable(detail: str, retry_s: int = RETRY_S) -> Problem:
    """Return the problem that means: nothing is known to have happened, ask the same again."""
    return _later("temporary-reduced-capacity", detail, retry_s)


def _later(
    name: str,
    detail: str,
    retry_s: int,
    members: Mapping[str, Any] | None = None,
    headers: tuple[Header, ...] = (),
) -> Problem:
    """Return a problem that says when to come back: as a header, and as a member.

    The problem of an item in a batch has no headers of its own.
    """
    return Problem(
        name,
        detail,
        {**(members or {}), "retry_after_s": retry_s},
        (*headers, (b"retry-after", b"%d" % retry_s)),
    )


def document(problem: Problem, *, instance: str, request_id: str) -> dict[str, Any]:
    """Return the problem as JSON."""
    kind = problem.type
    assert set(problem.members) <= set(kind.members), problem
    return {
        "type": kind.base + problem.name,
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "instance": instance,
        "request_id": request_id,
        **problem.members,
    }


def render(problem: Problem, *, instance: str, request_id: str) -> Answer:
    """Return the answer that carries this problem."""
    body = msgspec.json.encode(document(problem, instance=instance, request_id=request_id))
    headers = (NO_STORE, *problem.headers)
    return Answer(problem.type.status, body, headers, PROBLEM_JSON)
