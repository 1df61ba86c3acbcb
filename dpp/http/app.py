"""The public app: the table with its document, the dispatcher, the pages behind it."""

from dpp.http.cors import allowing
from dpp.http.dispatch import Dispatcher
from dpp.http.openapi.document import with_document
from dpp.http.pages import make_app
from dpp.http.routes import ROUTES
from dpp.http.services import Services


def public_app(services: Services, cors_allowed_origins: tuple[str, ...] = ()) -> Dispatcher:
    """Return the ASGI app of the public listener; its `refuse` answers what never reaches it."""
    routes, document = with_document(ROUTES, services.bounds)
    return Dispatcher(routes, services, make_app(document), allowing(cors_allowed_origins))
