"""When to ask again, and after which pause: pure arithmetic over what went wrong.

Asked again is what certainly was not done: the connection was never made, or the server says that
it did not take the request in (408, 429). What may have been done, or half (a lost answer, 5xx), is
asked again only where twice is the same as once: reads, and requests that a key names.

The pause is drawn evenly between nothing and a bound that doubles with each try, so that clients
which failed together do not come back together. What the server says in `Retry-After` comes on top.
"""

from __future__ import annotations

from attrs import frozen

from dpp.client.faults import (
    ApiProblem,
    BadAnswer,
    CertificateNotTrusted,
    ClientError,
    TransportError,
)

NOT_TAKEN_IN = frozenset({408, 429})
PERHAPS_DONE = frozenset({500, 502, 503, 504})
DOUBLINGS_MAX = 32  # far past any bound; 2 ** attempts has to stay a float


@frozen(kw_only=True)
class Retries:
    """How often and how long; the first try counts.

    `at_first` off: a server that never answered is not waited for, as a command does on a terminal.
    """

    attempts: int = 8
    total_s: float = 90.0  # longer than any Retry-After of a rate, which is at most its window
    pause_first_s: float = 0.2
    pause_max_s: float = 5.0
    at_first: bool = True

    def backoff(self, attempt: int, dice: float) -> float:
        """Return the seconds to wait after try number `attempt`; `dice` is drawn from [0, 1)."""
        bound = self.pause_first_s * 2.0 ** min(attempt - 1, DOUBLINGS_MAX)
        return dice * min(bound, self.pause_max_s)

    def pause(
        self,
        failure: ClientError,
        *,
        repeatable: bool,
        attempt: int,
        left_s: float,
        dice: float,
    ) -> float | None:
        """Return how long to wait before asking again; None = this failure is the answer.

        `attempt`: tries so far. `left_s`: what is left of the whole time.
        """
        if attempt >= self.attempts or left_s <= 0:
            return None
        if not worth_asking_again(failure, repeatable=repeatable):
            return None
        told_s = failure.retry_after_s if isinstance(failure, ApiProblem | BadAnswer) else None
        if told_s is not None and told_s > left_s:
            return None
        return min((told_s or 0.0) + self.backoff(attempt, dice), left_s)


def worth_asking_again(failure: ClientError, *, repeatable: bool) -> bool:
    """Say whether asking again is safe, and may go better."""
    if isinstance(failure, CertificateNotTrusted):
        return False  # it is the same one the next time
    if isinstance(failure, TransportError):
        return repeatable or not failure.sent
    if not isinstance(failure, ApiProblem | BadAnswer):
        return False
    return failure.status in NOT_TAKEN_IN or (repeatable and failure.status in PERHAPS_DONE)
