"""The configuration in force on this node; a file may say otherwise until it is reloaded."""

from quart import Quart

from dpp.http.admin.desk import Desk, Outcome, answers, told


async def show(desk: Desk) -> Outcome:  # noqa: ASYNC910 - nothing is waited for
    """GET /admin/v1/config: section → key → value and origin; secrets are masked."""
    return told(200, {"config": desk.running()})


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put this on the app."""
    app.get(f"{root}/config", endpoint="show_config")(answers(show, desk))
