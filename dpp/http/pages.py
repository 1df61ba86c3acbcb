"""The quart-trio app behind the table: what is for people, not for programs.

It serves `/docs`, the document as a page, with all that the page needs. Its limits are set here,
because Quart's own (16 MB of body, 60 s) are not ours.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from dpp.http.answers import Answer, request_id
from dpp.http.asgi import App
from dpp.http.openapi.page import Asset, assets
from dpp.http.problems import Problem, method_not_allowed, render

BODY_MAX = 64 * 1024  # pages take no bodies to speak of
ANSWER_WAIT_S = 10

UNKNOWN = Problem("not-found", "there is no such path")
# A page runs and wears what this node serves, and nothing that stands in the page itself.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def make_app(document: dict[str, Any]) -> App:
    """Return the app that serves pages."""
    app = QuartTrio("dpp.http.pages", static_folder=None)
    limit(app, BODY_MAX)
    app.register_error_handler(HTTPException, refuse)
    for path, asset in assets(document).items():
        app.add_url_rule(path, path, _serve(asset), methods=["GET"])
    return cast("App", app)  # Quart spells out every kind of scope and message


def _serve(asset: Asset) -> Callable[[], Awaitable[Response]]:
    """Return the view that serves an asset, or says that a browser has it already."""

    async def view() -> Response:
        response = Response(asset.body, 200, content_type=asset.media_type)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-cache"  # a node of another version may answer next
        response.set_etag(asset.tag)
        return await response.make_conditional(request)

    return view


def limit(app: QuartTrio, body_max: int) -> None:
    """Set the limits of a Quart app."""
    app.config["MAX_CONTENT_LENGTH"] = body_max
    app.config["BODY_TIMEOUT"] = ANSWER_WAIT_S
    app.config["RESPONSE_TIMEOUT"] = None  # who writes bounds it: a second bound would race it


async def refuse(error: HTTPException) -> Response:
    """Return werkzeug's refusals as problems."""
    if error.code == 405:  # noqa: PLR2004
        allow = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return respond(problem_answer(method_not_allowed(allow.encode("ascii"))))
    if error.code == 413:  # noqa: PLR2004
        return respond(problem_answer(Problem("payload-too-large", "the body is too large")))
    return respond(problem_answer(UNKNOWN))


def problem_answer(problem: Problem) -> Answer:
    """Return the answer that carries this problem, for the request that Quart is serving."""
    return render(problem, instance=request.path, request_id=named())


def named() -> str:
    """Return the id of the request that Quart is serving: the client's, or one made once."""
    if "request_id" not in g:
        given = request.headers.getlist("X-Request-Id")
        g.request_id = request_id(value.encode("latin-1") for value in given)
    return str(g.request_id)


def respond(answer: Answer) -> Response:
    """Return an answer as Quart has them."""
    response = Response(answer.body, answer.status, content_type=answer.media_type.decode("ascii"))
    for name, value in answer.headers:
        response.headers[name.decode("ascii")] = value.decode("latin-1")
    return response
