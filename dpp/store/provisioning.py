"""The roles and rights on an operator's own server, as far as who asks may make them.

`dpp migrate roles` comes here, as a superuser or as a role with CREATEROLE: on hosted servers
nobody is more. Whatever is as it should be is left alone, so it may be asked again. What the role
that asks may not do is not done, and told, a statement each, for somebody who may.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import asyncpg
from attrs import define, field

from dpp.faults import told
from dpp.rules import MASK
from dpp.store import roles, scram
from dpp.store.connections import CONNECT_S
from dpp.store.refusal import StartRefused
from dpp.urls import database_of, password_of, user_of

if TYPE_CHECKING:
    from asyncpg import Connection

# What it means that a statement was not carried out: no right to it, or no role yet to do it to.
NOT_OURS = (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedObjectError)
APP, AUDIT = "dpp_app", "dpp_audit"


@define
class Provision:
    """What was done, what was left to somebody else and why, and what is worth knowing."""

    done: list[str] = field(factory=list)
    left: list[dict[str, str]] = field(factory=list)
    notes: list[str] = field(factory=list)

    async def ensure(self, connection: Connection, statement: str, *, shown: str = "") -> bool:
        """Carry out one statement, or write down why not; say whether it was carried out.

        `shown`: without what is secret in it.
        """
        try:
            await connection.execute(statement)
        except NOT_OURS as error:
            self.left.append({"statement": shown or statement, "why": str(error)})
            return False
        self.done.append(shown or statement)
        return True


async def provide(admin_url: str, url: str, migrations_url: str | None) -> Provision:
    """Make roles, passwords, database and rights, so that the URLs of the configuration work.

    Each statement stands by itself: asked again after an interruption, it goes on.
    """
    made = Provision()
    database = database_of(url) or user_of(url) or APP
    passwords = _passwords(url, migrations_url, made)
    server = await _connect(admin_url)
    try:
        for statement in await roles.missing(server):
            await made.ensure(server, statement)
        for role, password in passwords.items():
            kept = scram.verifier(password, secrets.token_bytes(scram.SALT_BYTES))
            statement = f"alter role {role} password"
            await made.ensure(server, f"{statement} '{kept}'", shown=f"{statement} '{MASK}'")
        is_there = await _ensure_database(server, database, made)
    finally:
        await server.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it
    if is_there:
        await _ensure_rights(admin_url, database, made)
    return made


async def _connect(admin_url: str) -> Connection:
    """Come in as who makes roles; that URL is none of the configuration's."""
    try:
        return await asyncpg.connect(admin_url, timeout=CONNECT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartRefused(
            f"By the URL of who is to make the roles there is no way in: {told(error)}.",
            "Correct the URL that --admin-url or --admin-url-file gives, or a file that it names.",
            did="DPP changed nothing.",
        ) from error


async def _ensure_database(server: Connection, database: str, made: Provision) -> bool:
    if await server.fetchval("select 1 from pg_database where datname = $1", database):
        return True
    statement = await server.fetchval("select format('create database %I', $1::text)", database)
    # To give it away, a role must be able to become its owner; a superuser can.
    if await server.fetchval("select rolsuper from pg_roles where rolname = current_user"):
        statement += f" owner {roles.OWNER}"
    return await made.ensure(server, statement)


async def _ensure_rights(admin_url: str, database: str, made: Provision) -> None:
    within: Connection = await asyncpg.connect(admin_url, database=database, timeout=CONNECT_S)
    try:
        tried: set[str] = set()
        missing = await roles.missing(within, "rights")
        # What everybody may no longer, each of ours must be given: there are two passes at most.
        while todo := [statement for statement in missing if statement not in tried]:
            tried |= set(todo)
            for statement in todo:
                await made.ensure(within, statement)
            missing = await roles.missing(within, "rights")
        told = {one["statement"] for one in made.left}
        for statement in missing:  # a grant without the right to it only warns
            if statement not in told:
                made.done.remove(statement)
                why = f"only the owner of {database} or a superuser may"
                made.left.append({"statement": statement, "why": why})
    finally:
        await within.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


def _passwords(url: str, migrations_url: str | None, made: Provision) -> dict[str, str]:
    """Return the passwords that the URLs give to our roles; what they do not give is noted."""
    found: dict[str, str] = {}
    wanted: list[tuple[str, str, str | None]] = [
        (APP, "database.url", url),
        (roles.OWNER, "database.migrations_url", migrations_url),
    ]
    for role, key, given in wanted:
        if given is None:
            made.notes.append(f"{key} is empty: {role} was given no password")
            continue
        # Some poolers want the tenant behind the role: dpp_app.PROJECT.
        user = (user_of(given) or "").partition(".")[0]
        password = password_of(given)
        if user in {APP, roles.OWNER} - {role}:
            raise StartRefused(
                f"{key} names {user}: there it must be {role}, or a role of yours.",
                "Let database.url name dpp_app and database.migrations_url dpp_owner.",
                did="DPP changed nothing.",
            )
        if user != role:
            made.notes.append(f"{key} names {user or 'nobody'}, not {role}: no password was set")
        elif password is None:
            made.notes.append(f"{key} holds no password: {role} was given none")
        elif not scram.is_plain(password):
            raise StartRefused(
                f"The password in {key} has characters other than printable ASCII.",
                "Choose another one, such as the output of `openssl rand -hex 24`.",
                did="DPP changed nothing.",
            )
        else:
            found[role] = password
    made.notes.append(
        f"{AUDIT}, as whom people read, has no password from DPP: `\\password {AUDIT}` in psql"
    )
    return found


def document(made: Provision) -> dict[str, Any]:
    """Return the document that the command prints."""
    return {"ok": not made.left, "done": made.done, "left": made.left, "notes": made.notes}
