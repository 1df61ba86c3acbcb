"""Nodes: which there are, how each is; let one drain, let it work again."""

from typing import Final

from quart import Quart

from dpp.http.admin.desk import Desk, Outcome, answers, insist, read_body, told
from dpp.http.admin.views import Listing, node_view
from dpp.http.admin.wire import Change, DrainBody
from dpp.http.problems import Problem
from dpp.logs import get_logger

NO_NODE: Final = Problem("not-found", "there is no such node; `dpp node list` has them all")

log = get_logger(__name__)


async def list_(desk: Desk) -> Outcome:
    """GET /admin/v1/nodes: every node that ever was, by its id."""
    return told(200, Listing([node_view(one) for one in await desk.store.list_members()]))


async def show(desk: Desk, node_id: str) -> Outcome:
    """GET /admin/v1/nodes/{node_id}."""
    found = await desk.store.list_members(node_id)
    return told(200, node_view(found[0])) if found else NO_NODE


async def drain(desk: Desk, node_id: str) -> Outcome:
    """POST /admin/v1/nodes/{node_id}:drain; asked again it changes nothing."""
    body = await read_body(DrainBody)
    if isinstance(body, Problem):
        return body
    asked = await insist(
        lambda: desk.store.ask_drain(node_id, operator=body.operator, reason=body.reason)
    )
    if not asked:
        return NO_NODE
    log.info("node drain asked", node_id=node_id, operator=body.operator, reason=body.reason)
    return await show(desk, node_id)


async def undrain(desk: Desk, node_id: str) -> Outcome:
    """POST /admin/v1/nodes/{node_id}:undrain."""
    body = await read_body(Change)
    if isinstance(body, Problem):
        return body
    if not await insist(lambda: desk.store.end_drain(node_id)):
        return NO_NODE
    log.info("node drain ended", node_id=node_id, operator=body.operator, reason=body.reason)
    return await show(desk, node_id)


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    one = f"{root}/nodes/<node_id>"
    app.get(f"{root}/nodes", endpoint="list_nodes")(answers(list_, desk))
    app.get(one, endpoint="show_node")(answers(show, desk))
    app.post(f"{one}:drain", endpoint="drain_node")(answers(drain, desk))
    app.post(f"{one}:undrain", endpoint="undrain_node")(answers(undrain, desk))
