"""Where the database is, as whom to connect, and whether its schema is one that this release knows.

The embedded cluster has three roles, each reached without a password: the node works as dpp_app,
migrates as dpp_owner and audits as dpp_audit. An external database has one URL for work and
perhaps another for migrations. The embedded database is migrated at start; an external one only by
`dpp migrate up`, and a node refuses a schema it does not know.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, assert_never

import asyncpg
from attrs import evolve, frozen

from dpp.faults import StoreUnavailable, told
from dpp.store import migrate, roles
from dpp.store.connections import CONNECT_S, Address, Connection
from dpp.store.migrate import Ahead, Behind, Current, Empty, SchemaState
from dpp.store.poolers import Pooler, find_pooler
from dpp.store.refusal import StartRefused

T = TypeVar("T")

DATABASE = roles.DATABASE


@frozen
class Place:
    """How to connect, for each of the three things that are done."""

    app: Address
    owner: Address
    audit: Address


class SchemaRefused(StartRefused):
    """The schema is not the one this release knows."""


def embedded_place(host: str) -> Place:
    """Return the place of the cluster whose socket lies in `host`."""

    def address(user: str) -> Address:
        return Address({"host": host, "user": user, "database": DATABASE})

    return Place(
        address("dpp_app"), address(roles.OWNER), evolve(address("dpp_audit"), server="primary")
    )


def external_place(url: str, migrations_url: str | None, pooler: Pooler) -> Place:
    """Return the place behind the operator's URLs; `pooler`: what stands before `url`."""
    app = Address({"dsn": url}, pooler)
    return Place(app, Address({"dsn": migrations_url or url}), app)


async def ping(dsn: str) -> None:
    """Connect and ask one query; raises `StoreUnavailable` while there is no answer."""
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_S)
        try:
            await connection.fetchval("select 1")
        finally:
            await connection.close()
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ) as error:
        message = f"no answer yet: {told(error)}"
        raise StoreUnavailable(message) from error


async def assert_keeps_session(address: Address) -> None:
    """Raise where migrations would go through a pooler in transaction mode."""
    if await find_pooler(address.keywords) is Pooler.TRANSACTION:
        raise StartRefused(
            "Migrations need a session of their own, and a pooler in transaction mode stands "
            "between.",
            "Set database.migrations_url to the server itself, or to its pooler in session mode.",
            did="DPP changed nothing.",
        )


async def prepare_embedded(host: str) -> Place:
    """Make roles and database if missing; the schema is as it was."""
    await roles.prepare(host)
    return embedded_place(host)


async def assert_known(place: Place) -> None:
    """Raise `SchemaRefused` unless the schema is the one this release was written for."""
    app, owner = await over(place.app, which), await as_owner(place, which)
    if None not in (app, owner) and app != owner:
        raise SchemaRefused(
            "database.url and database.migrations_url lead to two databases.",
            "Let both name the same database of the same server, whatever stands between.",
        )
    state = await as_owner(place, migrate.known)
    if not isinstance(state, Current):
        raise refusal(state)
    for address in (place.app, place.audit):
        role = await over(address, astray)
        if role is not None:
            raise astray_refusal(role)


async def which(connection: Connection) -> str | None:
    """Return what tells a database from all others; None where the server does not say it.

    But for a copy of its files, which says the same.
    """
    with suppress(asyncpg.PostgresError):
        told: str = await connection.fetchval(
            "select system_identifier || '/' || (select oid from pg_database"
            " where datname = current_database()) from pg_control_system()"
        )
        return told
    return None


async def astray(connection: Connection) -> str | None:
    """Return the role's name where it looks for DPP's tables in another schema."""
    role: str | None = await connection.fetchval(
        "select current_user::text where to_regclass('stores') is distinct from"
        " to_regclass('dpp.stores')"
    )
    return role


def astray_refusal(role: str) -> SchemaRefused:
    """Say how a role finds the tables."""
    return SchemaRefused(
        f"The role {role} does not look for tables in the schema dpp.",
        f"As that role or as a superuser: alter role {role} set search_path = dpp; then start the "
        "node again.",
    )


def refusal(state: Empty | Behind | Ahead) -> SchemaRefused:
    """Say what is wrong with a schema, and what to do."""
    match state:
        case Empty():
            what = "The database has no schema of DPP yet."
        case Behind(missing):
            what = f"The database lacks migrations of this release: {', '.join(missing)}."
        case Ahead(unknown):
            return SchemaRefused(
                f"The database has migrations of a later release: {', '.join(unknown)}.",
                "Start the release that made them, or take them back with its `dpp migrate down`.",
            )
        case _:
            assert_never(state)
    return SchemaRefused(what, "Run `dpp migrate up`, then start the node again.")


async def as_owner(place: Place, action: Callable[[Any], Awaitable[T]]) -> T:
    """Run one of `dpp.store.migrate`'s functions on a connection of its own."""
    return await over(place.owner, action)


async def over(address: Address, action: Callable[[Any], Awaitable[T]]) -> T:
    """Run something on a connection of its own, on which nothing is kept."""
    connection = await asyncpg.connect(
        **address.keywords, timeout=CONNECT_S, statement_cache_size=0
    )
    try:
        return await action(connection)
    finally:
        await connection.close()


def described(state: SchemaState) -> str:
    """Return the word for a state of the schema."""
    return type(state).__name__.lower()
