"""What Redis says of itself, for `dpp.diagnosis.redis`. Runs in the bridge's thread."""

from __future__ import annotations

from dpp.diagnosis.checks import Unknown
from dpp.diagnosis.redis import Redis
from dpp.faults import HelperUnavailable
from dpp.store.redis_line import Line


async def gather(url: str) -> Redis | Unknown:
    """Ask INFO; twice, since the first answer has to wait for the connection."""
    line = Line(url)
    try:
        try:
            [said] = await line.ask([("INFO",)])
        except HelperUnavailable:
            [said] = await line.ask([("INFO",)])
    except HelperUnavailable as error:
        return Unknown(str(error))
    finally:
        await line.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it
    return read(said)


def read(said: bytes | str) -> Redis | Unknown:
    """Read the lines `name:value`."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        return Redis(
            version=told["redis_version"],
            policy=told["maxmemory_policy"],
            used=int(told["used_memory"]),
            limit=int(told["maxmemory"]),
        )
    except (KeyError, ValueError) as error:
        return Unknown(f"its INFO lacks {error}")
