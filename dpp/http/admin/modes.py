"""The mode of all nodes: look at it, change it. Every change says who and why, and stays."""

from uuid import uuid4

from quart import Quart

from dpp.http.admin.desk import Desk, Outcome, answers, insist, read_body, told
from dpp.http.admin.views import mode_view
from dpp.http.admin.wire import ModeBody
from dpp.http.problems import Problem
from dpp.logs import get_logger
from dpp.modes import Mode, NewMode

SHOWN = 50  # of the trail: some years of maintenance

log = get_logger(__name__)


async def show(desk: Desk) -> Outcome:
    """GET /admin/v1/mode: what is in force, and who asked for what before, newest first."""
    return told(200, mode_view(await desk.store.mode(), await desk.store.list_modes(SHOWN)))


async def change(desk: Desk) -> Outcome:
    """PUT /admin/v1/mode."""
    body = await read_body(ModeBody)
    if isinstance(body, Problem):
        return body
    new = NewMode(
        change_id=uuid4(),
        mode=Mode(body.mode),
        reason=body.reason,
        operator=body.operator,
        expires_in_s=body.expires_in_s,
    )
    await insist(lambda: desk.store.set_mode(new))
    log.info("mode changed", mode=body.mode, operator=body.operator, reason=body.reason)
    return await show(desk)


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    app.get(f"{root}/mode", endpoint="show_mode")(answers(show, desk))
    app.put(f"{root}/mode", endpoint="change_mode")(answers(change, desk))
