"""What the service says of itself: `/`, `/health`, `/readyz`. No key is asked for.

Health asks nothing: it says that the process lives and turns requests around. Readiness asks every
dependency in use (`readiness`).
"""

from typing import Final

from attrs import asdict

from dpp.http.answers import NO_STORE, Answer
from dpp.http.problems import Problem
from dpp.http.requests import Request
from dpp.http.services import Services
from dpp.http.views.encoding import encode
from dpp.http.views.service import HealthView, ReadyView, ServiceView
from dpp.modes import Mode
from dpp.version import VERSION

_ROOT: Final = encode(ServiceView("DPP API", VERSION, "running"))
_HEALTH: Final = encode(HealthView("healthy", VERSION))


async def get_root(_services: Services, _request: Request) -> Answer | Problem:
    """GET /."""
    return Answer(200, _ROOT)


async def get_health(_services: Services, _request: Request) -> Answer | Problem:
    """GET /health."""
    return Answer(200, _HEALTH, (NO_STORE,))


async def get_readyz(services: Services, _request: Request) -> Answer | Problem:
    """GET /readyz."""
    database = await services.readiness.database_up()
    orders = services.orders()
    draining = services.draining.is_set() or orders.drain
    ready = database and not draining
    differing = services.neighbourhood().differing
    asked = {"api": True, "database": database, **await services.readiness.helpers_up()}
    down = [name for name, up in asked.items() if not up and name != "database"]
    degraded = [*differing, *down]
    view = ReadyView(
        "not_ready" if not ready else "degraded" if degraded else "ready",
        {name: "up" if up else "down" for name, up in asked.items()},
        degraded=degraded,
        differing={what: list(nodes) for what, nodes in differing.items()},
        mode=orders.mode.value if orders.mode is not Mode.NORMAL else None,
        draining=draining,
    )
    told = {name: value for name, value in asdict(view).items() if value}
    return Answer(200 if ready else 503, encode(told), (NO_STORE,))
