"""Cross-origin requests: which pages of other origins may read the answers.

Answers of every status carry it, or a browser's script could not read the problem. Keys travel in
a header, never in cookies, so credentials are not allowed.
"""

from typing import Final

from attrs import frozen

from dpp.http.answers import Header

ALLOW_HEADERS: Final = (
    b"authorization, content-type, idempotency-key, if-none-match, if-range, prefer, range, "
    b"traceparent, x-request-id"
)
EXPOSE_HEADERS: Final = (
    b"accept-ranges, content-disposition, content-range, etag, idempotency-replayed, location, "
    b"preference-applied, ratelimit, ratelimit-policy, repr-digest, retry-after, "
    b"x-dpp-cost-actual, x-dpp-cost-minimum-fee, x-dpp-cost-reserved, x-request-id"
)
MAX_AGE_S: Final = b"600"  # how long a browser goes on asking by an old rule after a change


@frozen
class Cors:
    """The origins of `http.cors_allowed_origins`; `*` among them allows all."""

    origins: frozenset[bytes] = frozenset()

    def headers(self, origin: bytes | None) -> tuple[Header, ...]:
        """Return what an answer to this origin carries."""
        if not self.origins:
            return ()
        vary = (b"vary", b"origin")
        if origin is None or not (origin in self.origins or b"*" in self.origins):
            return (vary,)
        allowed = b"*" if b"*" in self.origins else origin
        return (
            vary,
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", EXPOSE_HEADERS),
        )

    def preflight(self, origin: bytes | None, methods: bytes) -> tuple[Header, ...]:
        """Return what the answer to OPTIONS carries beside `headers`."""
        allowed = self.headers(origin)
        if len(allowed) < 2:  # noqa: PLR2004 - nothing but Vary: this origin may not
            return ()
        return (
            (b"access-control-allow-methods", methods),
            (b"access-control-allow-headers", ALLOW_HEADERS),
            (b"access-control-max-age", MAX_AGE_S),
        )


def allowing(origins: tuple[str, ...]) -> Cors:
    """Return the rule for these origins."""
    return Cors(frozenset(origin.encode("ascii") for origin in origins))
