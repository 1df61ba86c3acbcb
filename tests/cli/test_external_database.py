"""An operator's own PostgreSQL 15, step by step as docs/database.md says: roles, schema, TLS, node.

Nobody there is a superuser to DPP: the roles are made by one with CREATEROLE and CREATEDB alone.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - asyncpg, where no loop runs
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import trio
from attrs import frozen

from dpp import accounts
from dpp.cli.exits import Exit
from tests.debian import Debian, debian, needs_debian
from tests.http.certificates import make_certificate
from tests.node_client import connected
from tests.node_process import node_process
from tests.pgbouncer import needs_pgbouncer, pgbouncer
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Dpp

APP, OWNER, HOSTER, SUPER = "app-canary", "owner-canary", "hoster-canary", "super-canary"
SECRETS = (APP, OWNER, HOSTER)

pytestmark = needs_debian


@frozen
class Server:
    """A server that takes passwords and speaks TLS."""

    debian: Debian
    port: int
    authority: Path

    def url(self, user: str, password: str, database: str = "dpp", host: str = "127.0.0.1") -> str:
        tls = f"sslmode=verify-full&sslrootcert={self.authority}"
        return f"postgresql://{user}:{password}@{host}:{self.port}/{database}?{tls}"

    def rows(self, query: str) -> list[Any]:
        """Ask as its superuser."""
        return asyncio.run(self._rows(query))

    async def _rows(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self.url("postgres", SUPER, "postgres"))
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with debian(SUPER) as one:
        port, place = free_port(), Path(one.host)
        made = make_certificate(place)
        child = accounts.choose_child(os.geteuid(), None)
        assert child is not None
        os.chown(made.key, child.uid, child.gid)
        made.chain.chmod(0o644)
        tls = (f"ssl_cert_file={made.chain}", f"ssl_key_file={made.key}")
        one.start("listen_addresses=127.0.0.1", f"port={port}", "ssl=on", *tls)
        server = Server(one, port, made.chain)
        server.rows(f"create role hoster login createrole createdb password '{HOSTER}'")
        yield server


@pytest.fixture
def bare(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Set the two URLs; give the file with that of the role that makes roles."""
    monkeypatch.setenv("DATABASE_URL", server.url("dpp_app", APP))
    monkeypatch.setenv("DATABASE_URL_MIGRATIONS", server.url("dpp_owner", OWNER))
    file = tmp_path / "admin"
    file.write_text(server.url("hoster", HOSTER, "postgres") + "\n")
    return file


@pytest.fixture
def configured(dpp: Dpp, bare: Path) -> Path:
    """The same, where roles and schema are made: by whichever test comes first."""
    assert dpp("migrate", "roles", "--admin-url-file", str(bare)).status == Exit.GOOD
    assert dpp("migrate", "up").status == Exit.GOOD
    return bare


def test_from_an_empty_server_to_a_paid_run(dpp: Dpp, server: Server, bare: Path) -> None:
    server.rows("drop database if exists dpp with (force)")
    for role in ("dpp_app", "dpp_owner", "dpp_audit"):
        server.rows(f"drop role if exists {role}")
    too_early = dpp("migrate", "up", "--json")
    made = dpp("migrate", "roles", "--admin-url-file", str(bare), "--json")
    again = dpp("migrate", "roles", "--admin-url-file", str(bare), "--json")
    up = dpp("migrate", "up", "--json")
    check = dpp("migrate", "check")

    assert (too_early.status, too_early.document["error"]["code"]) == (78, "database-refused")
    assert (made.status, made.document["left"]) == (Exit.GOOD, [])
    assert "create database dpp" in made.document["done"]
    # Whether a password is the right one cannot be seen: it is set anew.
    assert again.document["done"] == [
        f"alter role {role} password '***'" for role in ("dpp_app", "dpp_owner")
    ]
    assert up.document["applied"]
    assert check.out == "the catalog is what the migrations make\n"
    printed = "".join(one.out + one.err for one in (too_early, made, again, up, check))
    assert [secret for secret in SECRETS if secret in printed + server.debian.log()] == []
    limits = server.rows(
        "select rolname, setting from pg_roles, unnest(rolconfig) setting"
        " where rolname like 'dpp%' and setting like '%lock_timeout=%' order by 1"
    )
    assert [tuple(row) for row in limits] == [
        ("dpp_app", "lock_timeout=2s"),
        ("dpp_audit", "lock_timeout=2s"),
        ("dpp_owner", "lock_timeout=5s"),
    ]
    env = {name: os.environ[name] for name in ("DATABASE_URL",)}
    with node_process(env=env) as node:
        node.start()

        async def buy() -> dict[str, Any]:
            async with connected(node.url, node.tenant("acme")) as client:
                run = await client.submitted(inputs={"cost_usd": "0.001"})
                return await client.until_status(run["run_id"], "COMPLETED")

        ended = trio.run(buy)
        sessions = server.rows(
            "select distinct usename::text, ssl from pg_stat_ssl"
            " join pg_stat_activity using (pid) where usename = 'dpp_app'"
        )
        found = [line for line in node.lines() if line["logger"] == "dpp.store.server"]
        audit = node.admin("GET", "/admin/v1/audit")
        assert node.terminate() == 0

    assert ended["cost"]["actual_usd"] == "0.001"
    assert [tuple(row) for row in sessions] == [("dpp_app", True)]
    assert (found[0]["event"], found[0]["pooler"]) == ("database found", "direct")
    assert "no transaction_timeout before PostgreSQL 17" in found[1]["event"]
    assert audit["ok"]


def test_a_superuser_gives_the_database_to_its_owner_and_shuts_it_for_others(
    dpp: Dpp, server: Server, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.url("dpp_app", APP, "shop"))
    monkeypatch.setenv("DATABASE_URL_MIGRATIONS", server.url("dpp_owner", OWNER, "shop"))
    configured.write_text(server.url("postgres", SUPER, "postgres"))

    made = dpp("migrate", "roles", "--admin-url-file", str(configured), "--json")
    up = dpp("migrate", "up")
    check = dpp("migrate", "check")

    assert (made.status, made.document["left"]) == (Exit.GOOD, [])
    assert "create database shop owner dpp_owner" in made.document["done"]
    assert (up.status, check.status) == (Exit.GOOD, Exit.GOOD)
    may = "has_database_privilege('{}', 'shop', 'connect')"
    who = ", ".join(may.format(name) for name in ("hoster", "dpp_app", "dpp_audit"))
    assert tuple(server.rows(f"select {who}")[0]) == (False, True, True)
    server.rows("drop database shop with (force)")


def test_a_server_whose_certificate_names_another_host_is_refused(
    dpp: Dpp, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.url("dpp_app", APP, host="localhost"))

    looking = dpp("migrate", "status", "--json")
    serving = serve(dpp)

    assert (looking.status, looking.document["error"]["code"]) == (78, "database-tls")
    assert serving == looking.document["error"]
    assert "certificate is not valid for 'localhost'" in serving["what"]


def test_a_certificate_that_nobody_trusts_is_refused(
    dpp: Dpp, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = make_certificate(tmp_path)
    url = server.url("dpp_app", APP).replace(str(server.authority), str(other.chain))
    monkeypatch.setenv("DATABASE_URL", url)

    ended = dpp("migrate", "status", "--json")

    assert (ended.status, ended.document["error"]["code"]) == (78, "database-tls")


@pytest.mark.parametrize("action", ["up", "down"])
def test_migrating_without_the_right_to_it_says_as_whom_to_come(
    dpp: Dpp, configured: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setenv("DATABASE_URL_MIGRATIONS", "")

    ended = dpp("migrate", action, "--json")

    assert (ended.status, ended.document["error"]["code"]) == (78, "database-refused")
    assert "permission denied" in ended.document["error"]["what"]
    assert "dpp_owner" in ended.document["error"]["todo"]


def test_what_a_role_may_not_make_is_told_a_statement_each(
    dpp: Dpp, server: Server, monkeypatch: pytest.MonkeyPatch, configured: Path
) -> None:
    """As the node's own role, which may make nothing."""
    monkeypatch.setenv("DATABASE_URL", server.url("dpp_app", APP, "elsewhere"))
    configured.write_text(server.url("dpp_app", APP, "postgres"))

    ended = dpp("migrate", "roles", "--admin-url-file", str(configured), "--json")

    assert ended.status == Exit.NEGATIVE
    assert ended.document["done"] == ["alter role dpp_app password '***'"]  # its own it may
    left = [one["statement"] for one in ended.document["left"]]
    assert left == ["alter role dpp_owner password '***'", "create database elsewhere"]


def test_urls_that_were_swapped_are_refused(
    dpp: Dpp, server: Server, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.url("dpp_owner", OWNER))
    monkeypatch.setenv("DATABASE_URL_MIGRATIONS", server.url("dpp_app", APP))

    ended = dpp("migrate", "roles", "--admin-url-file", str(bare), "--json")

    assert ended.status == Exit.CONFIGURATION
    assert "database.url names dpp_owner" in ended.document["error"]["what"]


def test_a_way_in_for_who_makes_roles_that_is_none_is_named_as_that(
    dpp: Dpp, server: Server, bare: Path
) -> None:
    """Not as the URLs of the configuration: a wrong password, a file that is missing."""
    refused = []
    for url in (
        server.url("hoster", "wrong", "postgres"),
        server.url("hoster", HOSTER).replace(str(server.authority), "/nowhere"),
    ):
        bare.write_text(url)
        refused.append(dpp("migrate", "roles", "--admin-url-file", str(bare), "--json"))

    assert [one.status for one in refused] == [Exit.CONFIGURATION] * 2
    assert all("--admin-url-file" in one.document["error"]["todo"] for one in refused)
    assert HOSTER not in "".join(one.out + one.err for one in refused)


def test_a_password_on_the_command_line_is_refused(dpp: Dpp, server: Server) -> None:
    url = server.url("hoster", HOSTER, "postgres")

    ended = dpp("migrate", "roles", "--admin-url", url)

    assert ended.status == Exit.USAGE
    assert "PGPASSWORD" in ended.err
    assert HOSTER not in ended.out + ended.err


def serve(dpp: Dpp) -> Any:
    """Start a node that is refused; its error. PostgreSQL's user cannot search pytest's places."""
    here = ("--listen", "127.0.0.1:0", "--management", "127.0.0.1:0")
    with tempfile.TemporaryDirectory(prefix="dpp-test-") as place:
        Path(place).chmod(0o711)
        ended = dpp("serve", *here, "--data-dir", f"{place}/dpp", "--json")
    assert ended.status == Exit.CONFIGURATION, ended.err
    return ended.document["error"]


def test_two_urls_that_lead_to_two_databases_are_refused(
    dpp: Dpp, server: Server, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them has the schema."""
    server.rows("create database other owner dpp_owner")
    server.rows("grant connect on database other to dpp_app")
    try:
        monkeypatch.setenv("DATABASE_URL_MIGRATIONS", server.url("dpp_owner", OWNER, "other"))
        elsewhere = serve(dpp)
        monkeypatch.setenv("DATABASE_URL_MIGRATIONS", server.url("dpp_owner", OWNER))
        monkeypatch.setenv("DATABASE_URL", server.url("dpp_app", APP, "other"))
        other_way = serve(dpp)
    finally:
        server.rows("drop database other with (force)")

    assert elsewhere == other_way
    assert "lead to two databases" in elsewhere["what"]
    assert "the same database of the same server" in elsewhere["todo"]


def test_a_role_whose_commits_do_not_wait_is_refused(
    dpp: Dpp, server: Server, configured: Path
) -> None:
    server.rows("alter role dpp_app set synchronous_commit = off")
    try:
        error = serve(dpp)
    finally:
        server.rows("alter role dpp_app reset synchronous_commit")

    assert "synchronous_commit=off for dpp_app" in error["what"]
    assert "alter role dpp_app set synchronous_commit = on" in error["todo"]


def test_production_refuses_a_server_that_does_not_sync(
    dpp: Dpp, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers of tests do not."""
    monkeypatch.setenv("DPP_NODE__PROFILE", "production")

    error = serve(dpp)

    assert "fsync=off" in error["what"]
    assert "database.allow_unsynced = true" in error["todo"]


@needs_pgbouncer
def test_a_pooler_is_refused_where_it_does_not_fit(
    dpp: Dpp, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For migrations; against the setting; with parameters in the URL that it does not pass on."""
    more = f"auth_type = any\n[databases]\n* = host={server.debian.host} port={server.port} "
    with pgbouncer(server.debian.host, more=f"{more}user=dpp_app password={APP}") as pooler:
        url = f"postgresql://dpp_app@/dpp?host={pooler.host}"
        monkeypatch.setenv("DATABASE_URL", url)
        migrating = dpp("migrate", "up", "--json")
        monkeypatch.setenv("DPP_DATABASE__POOLER", "session")
        contradicted = serve(dpp)
        monkeypatch.setenv("DATABASE_URL", f"{url}&statement_timeout=5000")
        monkeypatch.setenv("DPP_DATABASE__POOLER", "transaction")
        parameter = serve(dpp)

    assert migrating.status == Exit.CONFIGURATION
    assert "database.migrations_url" in migrating.document["error"]["todo"]
    assert 'database.pooler is "session"' in contradicted["what"]
    assert 'Set database.pooler to "transaction"' in contradicted["todo"]
    assert "unsupported startup parameter: statement_timeout" in parameter["what"]
    assert "Take it out of the URL" in parameter["todo"]
