"""The books and the nodes, as operators look at them: audit, living nodes."""

from quart import Quart

from dpp.http.admin.desk import Desk, Outcome, answers, told
from dpp.http.admin.views import Listing, audit_view, node_view


async def audit(desk: Desk) -> Outcome:
    """GET /admin/v1/audit: one pass over one snapshot of the live database."""
    return told(200, audit_view(await desk.store.audit()))


async def nodes(desk: Desk) -> Outcome:
    """GET /admin/v1/nodes: those that live, by their lease rows."""
    return told(200, Listing([node_view(node) for node in await desk.store.list_nodes()]))


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    for handler in (audit, nodes):
        app.get(f"{root}/{handler.__name__}")(answers(handler, desk))
