"""Whether the Redis of the deployment would do: hints and counts, which may be lost at any time."""

from attrs import frozen

from dpp.diagnosis.checks import Check, Unknown, unseen, well, wrong

VERSION_MIN = 7
# Of maxmemory: past it the next burst of counts fills what is left.
FULL = 0.9
MIB = 1 << 20


@frozen
class Redis:
    """What it says of itself; bytes; `limit` 0: none."""

    version: str
    policy: str
    used: int
    limit: int


def diagnose(facts: Redis | Unknown | None) -> Check:
    """Judge it; None: none is configured. One that does not answer is wrong: nodes miss it too."""
    name = "redis"
    if facts is None:
        return well(name, "none: nodes poll, and each allows its share of reads")
    if isinstance(facts, Unknown):
        fix = "Start it, or correct redis.url; nodes work on without it, and poll."
        return wrong(name, f"does not answer: {facts.why}", fix)
    if not facts.version.split(".")[0].isdecimal():
        return unseen(name, f"it does not tell its version: {facts.version!r}")
    if int(facts.version.split(".")[0]) < VERSION_MIN:
        return wrong(name, f"is {facts.version}", f"Upgrade it to {VERSION_MIN} or later.")
    told = f"{facts.version} answers; maxmemory-policy {facts.policy}, {facts.used // MIB} MiB used"
    if facts.limit:
        told += f" of {facts.limit // MIB}"
        if facts.policy == "noeviction" and facts.used > FULL * facts.limit:
            fix = (
                "config set maxmemory-policy volatile-ttl, or a larger maxmemory: full, it refuses."
            )
            return wrong(name, told, fix)
    return well(name, told)
