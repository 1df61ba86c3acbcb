"""How a request says who asks: a bearer token, or a key that is made anew when it has run out."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator

import httpx
from attrs import define, field

from dpp.client.faults import Misconfigured

PRINTABLE = re.compile("[!-~]+")  # what a header can hold


@define(eq=False)
class Bearer(httpx.Auth):
    """A token that stands."""

    token: str = field(repr=False)

    def __attrs_post_init__(self) -> None:
        if PRINTABLE.fullmatch(self.token) is None:
            message = "an API key has no blank and no character outside of ASCII"
            raise Misconfigured(message)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request."""
        request.headers["Authorization"] = f"Bearer {self.token}"
        yield request


@define(eq=False)
class Renewed(httpx.Auth):
    """A short-lived key: made when first needed, and once more for a request that meets 401.

    A wait may outlast the key; whoever may make one goes on with the next. `end` is called when the
    client that it signs for is closed.
    """

    make: Callable[[], str]
    end: Callable[[], None] = lambda: None
    _key: str = field(default="", init=False, repr=False)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request, and sign it again with a new key if the old one is refused."""
        fresh = not self._key
        self._key = self._key or self.make()
        request.headers["Authorization"] = f"Bearer {self._key}"
        answer = yield request
        if answer.status_code == httpx.codes.UNAUTHORIZED and not fresh:
            self._key = self.make()
            request.headers["Authorization"] = f"Bearer {self._key}"
            yield request
