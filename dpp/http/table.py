"""Finding the row for a path: exact paths by name, templates by pattern.

A path is split at its raw slashes before anything is decoded, so an encoded slash never makes a
segment, and `%3A` is the colon that it stands for.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias
from urllib.parse import unquote

from attrs import frozen

from dpp.http.routes import Route

Methods: TypeAlias = Mapping[str, Route]

_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")


@frozen
class Match:
    """The rows of a path, by method, and what stands for the parameters."""

    methods: Methods
    params: Mapping[str, str]
    allow: bytes


class Table:
    """The rows, ready to be searched."""

    def __init__(self, routes: Iterable[Route]) -> None:
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            assert route.method not in by_path.setdefault(route.path, {}), route.path
            by_path[route.path][route.method] = route
        self._exact: dict[str, Match] = {}
        self._patterns: list[tuple[re.Pattern[str], Methods, bytes]] = []
        # RFC 9110, 9.3.7: `OPTIONS *` asks about the server as a whole.
        everywhere = allowed(
            {method: route for rows in by_path.values() for method, route in rows.items()}
        )
        self._exact["*"] = Match({}, {}, everywhere)
        for path, methods in by_path.items():
            if "{" in path:
                self._patterns.append((_pattern(path), methods, allowed(methods)))
            else:
                self._exact[path] = Match(methods, {}, allowed(methods))

    def find(self, raw_path: bytes) -> Match | None:
        """Return the rows for this path."""
        path = raw_path.decode("latin-1")
        if "%" in path:
            segments = [unquote(segment) for segment in path.split("/")]
            if any("/" in segment for segment in segments):
                return None
            path = "/".join(segments)
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        for pattern, methods, allow in self._patterns:
            found = pattern.fullmatch(path)
            if found is not None:
                return Match(methods, found.groupdict(), allow)
        return None


def allowed(methods: Methods) -> bytes:
    """Return the `Allow` header of a path: HEAD goes with GET, OPTIONS with all."""
    names = {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return ", ".join(sorted(names)).encode("ascii")


def _pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of a template; a parameter is a part of one segment, without a colon."""
    parts = _PARAMETER.split(path)
    text = "".join(
        f"(?P<{part}>[^/:]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )
    return re.compile(text)
