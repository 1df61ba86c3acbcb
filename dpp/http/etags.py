"""Entity tags: whether what a client has is still so."""

from typing import Final

from dpp.http.answers import Header

# The tenant may keep what it read; nobody else may, and it must ask whether it is still so.
REVALIDATE: Final[Header] = (b"cache-control", b"private, no-cache")


def matches(lines: list[bytes], etag: bytes) -> bool:
    """Compare as RFC 9110, 13.1.2 says: any of the list, weak or not, or a star."""
    tags = [tag.strip() for line in lines for tag in line.split(b",")]
    return any(tag == b"*" or tag.removeprefix(b"W/") == etag for tag in tags)
