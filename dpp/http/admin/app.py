"""The management app: `/metrics` for everyone who reaches the listener, the admin API by token.

The token is compared in constant time. Wrong ones are answered 429 after a few a minute; a right
one always comes in, so that nobody locks the operator out by guessing.
"""

import hmac
import re
from collections.abc import Mapping
from typing import Final, cast

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from dpp import metrics
from dpp.faults import StoreUnavailable
from dpp.http.admin import books, configuration, findings, keys, modes, nodes, tenants, transfers
from dpp.http.admin.desk import NO_TENANT, Desk
from dpp.http.admin.wire import FINDING_ID, RUN_ID, TENANT
from dpp.http.answers import SECURITY
from dpp.http.asgi import App
from dpp.http.keys import KEY_ID
from dpp.http.limits import Windows
from dpp.http.pages import UNKNOWN, limit, named, problem_answer, refuse, respond
from dpp.http.problems import Problem, over_quota, unauthorized, unavailable
from dpp.logs import get_logger

ROOT: Final = "/admin/v1"
METRICS: Final = "/metrics"
BODY_MAX: Final = 64 * 1024  # the largest body is a reference and a reason
FAILURES_A_MINUTE: Final = 10  # of an address
NAMES: Final[Mapping[str, tuple[str, Problem]]] = {  # what stands for what in a path
    "tenant": (TENANT, NO_TENANT),
    "key_id": (KEY_ID, keys.NO_KEY),
    "run_id": (RUN_ID, transfers.NO_RUN),
    "finding_id": (FINDING_ID, findings.NO_FINDING),
}
OTHER: Final = (r"[!-~]+", UNKNOWN)
WANTED: Final = "Send the admin token of this node as Authorization: Bearer …"

log = get_logger(__name__)


def admin_app(desk: Desk, token: str) -> App:
    """Return the app of the management listener."""
    app = QuartTrio("dpp.http.admin", static_folder=None)
    limit(app, BODY_MAX)
    app.before_request(Doorman(token).refuse)
    app.before_request(refuse_names)
    app.after_request(dress)
    app.register_error_handler(HTTPException, refuse)
    app.register_error_handler(StoreUnavailable, away)
    app.register_error_handler(Exception, failed)
    app.get(METRICS)(show_metrics)
    for resource in (tenants, keys, transfers, books, findings, nodes, modes, configuration):
        resource.add_to(app, ROOT, desk)
    return cast("App", app)  # Quart spells out every kind of scope and message


class Doorman:
    """Lets in who has the token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode("utf-8")
        self._failures = Windows()

    async def refuse(self) -> Response | None:
        """Answer who may not come in; None = go on."""
        if not request.path.startswith("/admin"):
            return None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8"), self._token)
        if same and scheme.lower() == "bearer":
            return None
        name = request.remote_addr or ""
        allowed, window = self._failures.take(name, FAILURES_A_MINUTE)
        if allowed:
            return respond(problem_answer(unauthorized(WANTED)))
        problem = over_quota("authentication", "too many wrong tokens", window.reset_s)
        return respond(problem_answer(problem))


async def refuse_names() -> Response | None:
    """Answer a path with a name that nothing was ever given; the store never sees it."""
    for kind, name in (request.view_args or {}).items():
        pattern, problem = NAMES.get(kind, OTHER)
        if re.fullmatch(pattern, name) is None:
            return respond(problem_answer(problem))
    return None


async def show_metrics() -> Response:
    """GET /metrics."""
    return Response(metrics.render(), content_type=metrics.CONTENT_TYPE)


async def dress(response: Response) -> Response:
    """Put on what every answer carries."""
    for name, value in SECURITY:
        response.headers[name.decode("ascii")] = value.decode("ascii")
    response.headers["X-Request-Id"] = named()
    return response


async def away(_outage: StoreUnavailable) -> Response:
    """Answer an outage: nothing is known to have been done."""
    return respond(problem_answer(unavailable("the database is away; ask the same again")))


async def failed(bug: Exception) -> Response:
    """Answer a bug; the log has it."""
    log.error("admin request failed", request_id=named(), path=request.path, exc_info=bug)
    return respond(problem_answer(Problem("internal-error", "it is in the log")))
