"""What differs between the configuration that runs and one that was read: what is taken over live.

A running node takes over plans, the level of its log, the pace of its loops, and what is asked anew
for each run; what sockets, pools, leases and documents were made from needs a restart. No rule of
`dpp.combinations` is about a setting of each kind, so the mixture is right where both were.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from attrs import evolve, frozen

from dpp.combinations import setting
from dpp.config import SCHEMA, Config, show

Tables: TypeAlias = Mapping[str, Mapping[str, Mapping[str, object]]]

LIVE: Final = frozenset({
    "audit.interval_s",
    "log.level",
    "reaper.interval_s",
    "reaper.scan_limit",
    "reconcile.interval_s",
    "reconcile.scan_limit",
    "runs.attempts_max",
    "runs.concurrency",
    "runs.queue_ttl_s",
})  # fmt: skip


@frozen(kw_only=True)
class Change:
    """A setting, or a plan, that differs; secrets are masked. `live`: it needs no restart."""

    key: str
    was: object
    now: object
    origin: str
    live: bool


def changes(running: Config, read: Config) -> tuple[Change, ...]:
    """Return what differs, by name; a plan is one setting, None where there is none.

    A secret that differs is told, and not shown.
    """
    secret = [key for key in SCHEMA.rules if setting(running, key) != setting(read, key)]
    return differences(show(running), show(read), secret)


def differences(was: Tables, now: Tables, keys: Iterable[str] = ()) -> tuple[Change, ...]:
    """Return what differs between what two configurations show, and `keys` whatever they show."""
    before, after = flat(was), flat(now)
    told = {f"{key}_file" if key in SCHEMA.file_only else key for key in keys}
    named = {*before, *after}
    differ = {key for key in named if value_of(before, key) != value_of(after, key)} | told
    return tuple(
        Change(
            key=key,
            was=value_of(before, key),
            now=value_of(after, key),
            origin=str(after.get(key, before.get(key, {})).get("origin", "")),
            live=key in LIVE or key.startswith("plans."),
        )
        for key in sorted(differ)
    )


def flat(tables: Tables) -> dict[str, Mapping[str, object]]:
    """Return what `show` returns by whole keys."""
    return {
        f"{section}.{word}": one for section, words in tables.items() for word, one in words.items()
    }


def value_of(shown: Mapping[str, Mapping[str, object]], key: str) -> object:
    """Return the value of a key, None where there is none."""
    return shown.get(key, {}).get("value")


def adopted(running: Config, read: Config) -> Config:
    """Return what runs after a reload: what is live as it was read, all else as it was."""
    sections = {key.partition(".")[0] for key in LIVE}
    mixed = {
        section: evolve(
            getattr(running, section),
            **{
                key.partition(".")[2]: setting(read, key)
                for key in LIVE
                if key.startswith(f"{section}.")
            },
        )
        for section in sections
    }
    taken = {key for key in read.origins if key in LIVE or key.startswith("plans.")}
    kept = {
        key: origin
        for key, origin in running.origins.items()
        if key not in LIVE and not key.startswith("plans.")
    }
    origins = {**kept, **{key: read.origins[key] for key in taken}}
    return evolve(
        running, **mixed, plans=read.plans, origins=MappingProxyType(origins), warnings=()
    )
