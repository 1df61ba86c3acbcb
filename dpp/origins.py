"""Origins: scheme, host and port of a web URL, as RFC 6454 compares them.

A run may name a URL of its own for its deliveries, below the origin of a registered webhook.
"""

import re
from typing import Final
from urllib.parse import urlsplit

PORTS: Final = {"https": 443, "http": 80}

_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f\\]")  # a backslash is a slash to some readers


def origin(text: str) -> str | None:
    """Return a URL's origin as text; None = it has none."""
    if _UNPRINTABLE.search(text):
        return None
    try:
        url = urlsplit(text)
        port = url.port or PORTS.get(url.scheme)
    except ValueError:
        return None
    if url.username is not None or url.password is not None or not url.hostname or port is None:
        return None
    return f"{url.scheme}://{url.hostname}:{port}"
