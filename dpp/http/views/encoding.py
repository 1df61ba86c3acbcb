"""How views are written as JSON, and what several of them share."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

USD: Final = "USD"
SCHEMAS: Final = "#/components/schemas/"
Time = Annotated[datetime, Meta(tz=True)]


def encode(view: object) -> bytes:
    """Write a view as JSON."""
    return _ENCODER.encode(view)


def written(view: object) -> msgspec.Raw:
    """Write a part of a large answer, which then costs no more than copying it."""
    return msgspec.Raw(_ENCODER.encode(view))


_ENCODER: Final = msgspec.json.Encoder()
