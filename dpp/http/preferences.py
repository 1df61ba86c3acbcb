"""What a client would like (RFC 7240, `Prefer`), as far as it is honoured here.

`wait=N`: to have the run's end in the answer, if it ends within N seconds from the request on. N is
an upper bound: over the node's maximum, that is what is waited, and what `Preference-Applied`
names. `respond-async` is acknowledged, and changes nothing: whoever does not say `wait` is answered
at once. What is not known here, is malformed, or stands for the second time, is ignored.
"""

import re
from typing import Final

from attrs import frozen

from dpp.http.answers import Header

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_WORD: Final = rf'(?:{_NAME}|"(?:[^"\\]|\\.)*")'
_VALUE: Final = rf"[ \t]*=[ \t]*({_WORD})"
# Possessive: blanks between semicolons could else be shared out in exponentially many ways.
_PARAMETERS: Final = rf"(?>[ \t]*;[ \t]*(?:{_NAME}(?:[ \t]*=[ \t]*{_WORD})?)?)*+"
_PREFERENCE: Final = re.compile(rf"[ \t,]*({_NAME})(?:{_VALUE})?{_PARAMETERS}[ \t]*(?:,|$)")
_SECONDS: Final = re.compile(r'("?)0*([0-9]{1,9})\1')  # what is longer is no number of seconds


@frozen
class Preferences:
    """What was asked for and is honoured."""

    wait_s: int | None = None
    respond_async: bool = False

    def applied(self) -> tuple[Header, ...]:
        """Return the header that says so."""
        words = [b"respond-async"] if self.respond_async else []
        if self.wait_s is not None:
            words.append(b"wait=%d" % self.wait_s)
        return ((b"preference-applied", b", ".join(words)),) if words else ()


def read_preferences(lines: list[bytes], wait_max_s: int) -> Preferences:
    """Read the header lines; what follows a syntax error is ignored with it."""
    text = ",".join(line.decode("latin-1") for line in lines)
    named: dict[str, str] = {}
    at = 0
    while found := _PREFERENCE.match(text, at):
        named.setdefault(found[1].lower(), found[2] or "")
        at = found.end()
    seconds = _SECONDS.fullmatch(named.get("wait", ""))
    return Preferences(
        wait_s=None if seconds is None else min(int(seconds[2]), wait_max_s),
        respond_async="respond-async" in named,
    )
