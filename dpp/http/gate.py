"""What stands between a request and its handler, in the order in which clients are answered.

First what the head alone says: what the answer may be, what the body claims to be and how long.
Then the key, its scope, and the rate of reads. Submits are counted by the intake.
"""

from attrs import frozen

from dpp.http.answers import Header
from dpp.http.auth import Principal
from dpp.http.limits import READ, window_headers
from dpp.http.media import refuse_accept, refuse_content
from dpp.http.problems import Problem, over_quota
from dpp.http.requests import Headers, too_large
from dpp.http.routes import Route
from dpp.http.services import Services


@frozen
class Entry:
    """Who came in (None where no key is asked for), and what the answer says of the rate."""

    principal: Principal | None = None
    headers: tuple[Header, ...] = ()


async def admit(
    services: Services, route: Route, headers: Headers, address: str
) -> Entry | Problem:
    """Let the request in, or say why not; raises `StoreUnavailable`."""
    refused = _refuse_head(services, route, headers)
    if refused is not None:
        return refused
    if route.scope is None:
        return Entry()
    principal = await services.keys.authenticate(headers.get(b"authorization", []), address)
    if isinstance(principal, Problem):
        return principal
    if route.scope not in principal.scopes:
        return Problem("forbidden", f"the key has no scope {route.scope}")
    return await _count(services, route, principal)


def _refuse_head(services: Services, route: Route, headers: Headers) -> Problem | None:
    refused = refuse_accept(headers.get(b"accept", []), route.offers)
    if refused is not None or route.body is None:
        return refused
    refused = refuse_content(
        headers.get(b"content-type", []),
        headers.get(b"content-encoding", []),
        route.body.media_types,
    )
    if refused is not None:
        return refused
    bytes_max = route.body.bytes_max(services.bounds)
    lengths = headers.get(b"content-length", [])
    return too_large(bytes_max) if lengths and int(lengths[0]) > bytes_max else None


async def _count(services: Services, route: Route, principal: Principal) -> Entry | Problem:
    """Count a read against what the tenant's plan allows."""
    plan = services.plans.now.get(principal.plan)
    if route.limit != READ or plan is None or plan.reads_per_minute is None:
        return Entry(principal)
    allowed, window = await services.reading.take(
        principal.tenant_id, plan.reads_per_minute, services.neighbourhood().living
    )
    headers = window_headers(READ, window)
    if allowed:
        return Entry(principal, headers)
    detail = f"{window.limit} reads a minute; the next in {window.reset_s} s"
    return over_quota(READ, detail, window.reset_s, headers)
