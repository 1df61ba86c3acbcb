"""An operator's client, for the admin API on the management listener.

Answers stay documents: they are printed, not computed with. Every write carries who asks for it.
What makes something new (a tenant, a key) is asked again only when it was certainly not done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from attrs import define, field

from dpp.client.keys import Bearer
from dpp.client.transport import Document, Retries, Transport

ROOT = "/admin/v1"


@define(eq=False)
class Admin:
    """A context manager; `operator` is written beside everything that it changes."""

    url: str
    token: str = field(repr=False)
    operator: str
    retries: Retries = field(factory=Retries)
    _transport: Transport = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._transport = Transport(self.url, Bearer(self.token), self.retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
