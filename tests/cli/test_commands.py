"""Every command against a real node, found as operators find it: by its data directory."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Protocol

import pytest

from dpp.cli.exits import Exit
from tests.cli.conftest import Dpp, Ended


class Served(Protocol):
    """What these tests use of a running node."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def url(self) -> str: ...
    @property
    def management_url(self) -> str: ...


@pytest.fixture(autouse=True)
def _local(served_node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(served_node.data_dir))


@pytest.fixture
def name() -> str:
    return f"acme-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def tenant(dpp: Dpp, name: str) -> dict[str, Any]:
    """Create a tenant with $10 by the command."""
    made = dpp("tenant", "create", name, "--plan", "basic", "--deposit", "10.00", "--json")
    assert made.status == Exit.GOOD, made.err
    document: dict[str, Any] = made.document
    return document


def budget(
    deposited: str, available: str, held: str = "0.00", spent: str = "0.00"
) -> dict[str, str]:
    return {
        "deposited_usd": deposited,
        "available_usd": available,
        "held_usd": held,
        "spent_usd": spent,
        "currency": "USD",
    }


def submit(dpp: Dpp, tenant: dict[str, Any], *more: str, max_cost: str = "0.10") -> Ended:
    echo = ("run", "submit", "--pack", "echo", "--max-cost", max_cost)
    return dpp(*echo, "--tenant", tenant["tenant_id"], "--json", *more)


def test_a_tenant_is_created_with_a_key_and_a_deposit(tenant: dict[str, Any], name: str) -> None:
    assert {*tenant} == {"tenant_id", "plan", "api_key", "budget"}
    assert (tenant["tenant_id"], tenant["plan"]) == (name, "basic")
    assert tenant["api_key"].startswith("dpp_live_")
    assert tenant["budget"] == budget("10.00", "10.00")


def test_a_tenant_that_exists_is_left_alone_and_ends_with_1(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    again = dpp("tenant", "create", name, "--plan", "pro", "--deposit", "5.00", "--json")

    assert (again.status, again.document["error"]["code"]) == (Exit.NEGATIVE, "tenant-exists")
    shown = dpp("tenant", "show", name, "--json").document
    assert (shown["plan"], shown["budget"]) == ("basic", tenant["budget"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--plan", "nonsense"), "invalid-request"),
        (("--plan", "basic", "--deposit", "-1"), "invalid-request"),
        (("--plan", "basic", "--deposit", "1e3"), "invalid-request"),
    ],
)
def test_a_tenant_that_cannot_be_is_refused(
    dpp: Dpp, name: str, arguments: tuple[str, ...], code: str
) -> None:
    refused = dpp("tenant", "create", name, *arguments, "--json")

    assert (refused.status, refused.document["error"]["code"]) == (Exit.NEGATIVE, code)
    assert dpp("tenant", "show", name, "--json").document["error"]["code"] == "not-found"


def test_every_tenant_is_listed(dpp: Dpp, tenant: dict[str, Any], name: str) -> None:
    listed = dpp("tenant", "list", "--json")
    table = dpp("tenant", "list")

    assert name in [one["tenant_id"] for one in listed.document["items"]]
    assert name in table.out


def test_a_suspended_tenant_submits_nothing_until_it_is_resumed(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    suspended = dpp("tenant", "suspend", name, "--reason", "a test", "--json")
    refused = submit(dpp, tenant)
    resumed = dpp("tenant", "resume", name, "--json")
    accepted = submit(dpp, tenant)

    assert suspended.document["suspended"] is True
    assert (refused.status, refused.document["error"]["code"]) == (1, "tenant-suspended")
    assert resumed.document["suspended"] is False
    assert accepted.status == Exit.GOOD


def test_a_plan_is_changed(dpp: Dpp, tenant: dict[str, Any], name: str) -> None:
    changed = dpp("tenant", "plan", name, "pro", "--json")
    refused = dpp("tenant", "plan", name, "nonsense", "--json")

    assert changed.document["plan"] == "pro"
    assert refused.status == Exit.NEGATIVE
    assert dpp("tenant", "show", name, "--json").document["plan"] == "pro"


def test_a_key_is_made_listed_without_its_secret_and_revoked(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    made = dpp("key", "create", name, "--json").document
    listed = dpp("key", "list", name, "--json")
    revoked = dpp("key", "revoke", name, made["key_id"], "--json")
    refused = dpp("run", "list", "--api-key", made["api_key"], "--json")

    assert {*made} == {"key_id", "api_key"}
    assert made["key_id"] in [key["key_id"] for key in listed.document["items"]]
    assert made["api_key"].split("_")[3] not in listed.out
    assert revoked.status == Exit.GOOD
    assert (refused.status, refused.document["error"]["code"]) == (1, "unauthorized")


def test_a_key_has_scopes_an_end_and_a_spend_limit_and_is_listed_after_its_end_where_asked(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    limits = ("--scope", "runs:read", "--scope", "runs:write", "--expires-in", "2h")
    made = dpp("key", "create", name, *limits, "--spend-limit", "5.00", "--json").document
    alive = dpp("key", "list", name, "--json").document["items"]
    dpp("key", "revoke", name, made["key_id"])
    after = dpp("key", "list", name, "--json").document["items"]
    ended = dpp("key", "list", name, "--all", "--json").document["items"]
    shown = dpp("key", "list", name, "--all").out

    key = alive[0]
    assert (key["key_id"], key["scopes"]) == (made["key_id"], ["runs:read", "runs:write"])
    assert (key["spend_limit_usd"], key["spent_usd"]) == ("5.00", "0.00")
    assert key["expires_at"] is not None
    assert made["key_id"] not in [one["key_id"] for one in after]
    assert [one["key_id"] for one in ended if one["revoked"]][0] == made["key_id"]  # noqa: RUF015
    assert "revoked" in shown


def test_a_key_is_rotated_and_the_old_one_goes_on_as_long_as_is_said(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    made = dpp("key", "create", name, "--json").document

    turned = dpp("key", "rotate", name, made["key_id"], "--overlap", "1h", "--json").document
    both = [
        dpp("run", "list", "--api-key", one["api_key"], "--json").status for one in (made, turned)
    ]
    ended = dpp("key", "rotate", name, turned["key_id"], "--overlap", "0")
    gone = dpp("key", "rotate", name, turned["key_id"], "--json")

    assert {*turned} == {"key_id", "api_key", "old_ends_at"}
    assert both == [Exit.GOOD, Exit.GOOD]
    assert (ended.status, gone.status) == (Exit.GOOD, Exit.NEGATIVE)
    assert gone.document["error"]["code"] == "not-found"


@pytest.mark.parametrize("time", ["-1", "1w", "", "1.5h", "soon", "30"])
def test_a_time_that_is_none_is_told_before_anything_is_asked(
    dpp: Dpp, name: str, time: str
) -> None:
    refused = dpp("key", "create", name, "--expires-in", time)

    assert refused.status == Exit.USAGE


def test_a_key_that_a_command_made_for_itself_does_not_outlive_it(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    before = dpp("key", "list", name, "--json").document["items"]

    asked = dpp("run", "list", "--tenant", name, "--json")
    submitted = submit(dpp, tenant, "--wait")

    keys = dpp("key", "list", name, "--json").document["items"]
    assert (asked.status, submitted.status) == (Exit.GOOD, Exit.GOOD)
    assert [key["key_id"] for key in keys if not key["revoked"]] == [before[0]["key_id"]]


def test_a_reference_books_once(dpp: Dpp, tenant: dict[str, Any], name: str) -> None:
    first = dpp("deposit", name, "5.00", "--reference", "inv-7", "--json")
    again = dpp("deposit", name, "5.00", "--reference", "inv-7", "--json")
    other = dpp("deposit", name, "6.00", "--reference", "inv-7", "--json")

    assert first.document["budget"] == budget("15.00", "15.00")
    assert (again.status, again.document) == (Exit.GOOD, first.document)
    assert (other.status, other.document["error"]["code"]) == (1, "reference-reused")
    assert dpp("tenant", "show", name, "--json").document["budget"] == budget("15.00", "15.00")


def test_at_most_what_is_available_is_withdrawn(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    some = dpp("withdraw", name, "4.00", "--json")
    more = dpp("withdraw", name, "6.01", "--json")

    assert some.document["budget"] == budget("6.00", "6.00")
    assert more.status == Exit.NEGATIVE
    assert dpp("tenant", "show", name, "--json").document["budget"] == budget("6.00", "6.00")


@pytest.fixture
def paid(dpp: Dpp, tenant: dict[str, Any]) -> str:
    """Let a run cost $0.05; its id."""
    ended = submit(dpp, tenant, "--input", 'cost_usd="0.05"', "--wait")
    assert ended.status == Exit.GOOD, ended.err
    return str(ended.document["run_id"])


@pytest.mark.parametrize("named", [True, False])
def test_what_a_run_cost_is_refunded_once_by_its_reference(
    dpp: Dpp, paid: str, name: str, *, named: bool
) -> None:
    of = (name, paid) if named else (paid,)
    why = ("--reason", "it was late", "--reference", "back-1", "--json")

    first = dpp("refund", *of, "0.04", *why)
    again = dpp("refund", *of, "0.04", *why)
    other = dpp("refund", *of, "0.05", *why)

    assert first.document == {"budget": budget("10.00", "9.99", spent="0.01")}
    assert (again.status, again.document) == (Exit.GOOD, first.document)
    assert (other.status, other.document["error"]["code"]) == (1, "reference-reused")


def test_no_more_is_refunded_than_is_left_and_the_error_says_how_much(
    dpp: Dpp, paid: str, name: str
) -> None:
    some = dpp("refund", name, paid, "0.04", "--reason", "late")
    more = dpp("refund", name, paid, "0.02", "--reason", "late", "--json")
    rest = dpp("refund", paid, "0.01", "--reason", "late", "--json")

    assert (some.status, some.err.startswith("reference cli-")) == (Exit.GOOD, True)
    assert "0.01" in some.out
    assert (more.status, more.document["error"]["code"]) == (1, "refund-too-high")
    assert "it cost $0.05, of which $0.04 is refunded: $0.01 is left" in more.err
    assert more.document["error"]["problem"]["left_usd"] == "0.01"
    assert rest.document["budget"] == budget("10.00", "10.00")


def test_a_run_that_is_not_there_or_not_ended_is_not_refunded(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    running = submit(dpp, tenant, "--input", "sleep_s=60").document["run_id"]
    unknown, why = str(uuid.uuid4()), ("--reason", "a test", "--json")

    refused = [
        dpp("refund", name, running, "0.01", *why),
        dpp("refund", running, "0.01", *why),
        dpp("refund", name, unknown, "0.01", *why),
        dpp("refund", unknown, "0.01", *why),
        dpp("refund", name, "nothing", "0.01", *why),
    ]
    dpp("run", "cancel", running, "--tenant", name)

    assert [one.status for one in refused] == [Exit.NEGATIVE] * 5
    codes = [one.document["error"]["code"] for one in refused]
    assert codes == ["run-not-finished"] * 2 + ["not-found"] * 2 + ["invalid-request"]
    assert "dpp run wait" in refused[0].err
    assert "dpp run list --tenant" in refused[2].err
    assert "RUN must be the run_id of a run" in refused[4].err


@pytest.mark.parametrize(
    "amount",
    [("-4.00",), ("--", "-4.00")],
    ids=" ".join,
)
def test_an_adjust_corrects_either_way_however_its_sign_is_given(
    dpp: Dpp, tenant: dict[str, Any], name: str, amount: tuple[str, ...]
) -> None:
    less = dpp("adjust", name, "--reason", "booked twice", "--json", *amount)
    more = dpp("adjust", name, "+1.00", "--reason", "not so", "--json")
    bare = dpp("adjust", name, "1.00", "--reason", "not so", "--json")
    over = dpp("adjust", "--reason", "too much", name, "-8.01", "--json")

    assert less.document == {"budget": budget("6.00", "6.00")}
    assert more.document == {"budget": budget("7.00", "7.00")}
    assert bare.document == {"budget": budget("8.00", "8.00")}
    assert (over.status, over.document["error"]["code"]) == (1, "budget-exceeded")
    assert "dpp tenant show" in over.err


def test_an_adjust_is_booked_once_by_its_reference(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    why = ("--reference", "mend-1", "--reason", "booked twice", "--json")

    first, again = [dpp("adjust", name, "-1.00", *why) for _ in range(2)]
    other = dpp("adjust", name, "1.00", *why)

    assert first.document == again.document == {"budget": budget("9.00", "9.00")}
    assert (other.status, other.document["error"]["code"]) == (1, "reference-reused")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("refund", "acme", "r", "1.00"), "--reason"),
        (("adjust", "acme", "-1.00"), "--reason"),
        (("refund", "1.00", "--reason", "why"), "[TENANT] RUN USD"),
        (("refund", "--reason", "why"), "[TENANT] RUN USD"),
        (("refund", "a", "b", "c", "d", "--reason", "why"), "[TENANT] RUN USD"),
        (("adjust", "acme", "--reason", "why"), "±USD"),
        (("adjust", "acme", "-1.00", "--reson", "why"), "--reason"),
        (("adjust", "acme", "--reson", "why", "-1.00", "--reason", "why"), "--reson"),
        (("adjust", "-x", "acme", "-1.00", "--reason", "why"), "-x"),
    ],
)
def test_a_transfer_that_is_typed_wrong_is_usage(
    dpp: Dpp, arguments: tuple[str, ...], words: str
) -> None:
    wrong = dpp(*arguments, "--json")

    assert (wrong.status, wrong.document["error"]["code"]) == (Exit.USAGE, "usage")
    assert words in wrong.document["error"]["what"]


def test_a_blank_reason_is_refused(dpp: Dpp, tenant: dict[str, Any], name: str) -> None:
    refused = dpp("adjust", name, "1.00", "--reason", " ", "--json")

    assert (refused.status, refused.document["error"]["code"]) == (1, "invalid-request")
    assert "--reason must say why" in refused.err


def test_a_run_is_submitted_followed_and_paid_for(
    dpp: Dpp, tenant: dict[str, Any], name: str
) -> None:
    ended = submit(dpp, tenant, "--input", "message=hi", "--input", 'cost_usd="0.05"', "--wait")

    assert ended.status == Exit.GOOD
    run = ended.document
    assert (run["status"], run["result"], run["cost"]["actual_usd"]) == (
        "COMPLETED",
        {"message": "hi"},
        "0.05",
    )
    assert f"{run['run_id']} COMPLETED" in ended.err
    shown = dpp("tenant", "show", name, "--json").document
    assert shown["budget"] == budget("10.00", "9.95", spent="0.05")


def test_a_run_that_fails_ends_with_1_under_wait(dpp: Dpp, tenant: dict[str, Any]) -> None:
    ended = submit(dpp, tenant, "--input", "fail=true", "--wait")

    assert (ended.status, ended.document["status"]) == (Exit.NEGATIVE, "FAILED")
    assert ended.document["error"]["code"] == "pack_refused"


def test_the_same_idempotency_key_is_the_same_run(dpp: Dpp, tenant: dict[str, Any]) -> None:
    first = submit(dpp, tenant, "--idempotency-key", "once").document
    again = submit(dpp, tenant, "--idempotency-key", "once").document
    other = submit(dpp, tenant, "--idempotency-key", "once", max_cost="0.20")

    assert again["run_id"] == first["run_id"]
    assert (other.status, other.document["error"]["code"]) == (1, "idempotency-key-reused")


def test_a_run_the_budget_does_not_cover_is_refused(dpp: Dpp, tenant: dict[str, Any]) -> None:
    dpp("withdraw", tenant["tenant_id"], "9.95", "--json")

    refused = submit(dpp, tenant)

    assert refused.status == Exit.NEGATIVE
    assert refused.document["error"]["code"] == "budget-exceeded"
    assert refused.document["error"]["problem"]["required_usd"] == "0.10"
    assert "dpp deposit" in refused.err


def test_a_running_run_is_canceled(dpp: Dpp, tenant: dict[str, Any]) -> None:
    who = ("--api-key", tenant["api_key"], "--json")
    run_id = submit(dpp, tenant, "--input", "sleep_s=60").document["run_id"]

    asked = dpp("run", "cancel", run_id, *who)
    ended = dpp("run", "wait", run_id, *who)

    assert asked.status == Exit.GOOD
    assert (ended.status, ended.document["status"]) == (Exit.NEGATIVE, "CANCELED")
    assert dpp("run", "show", run_id, *who).document["cost"]["actual_usd"] == "0.00"


def test_runs_are_listed_newest_first_page_by_page(
    dpp: Dpp, tenant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [submit(dpp, tenant).document["run_id"] for _ in range(3)]
    monkeypatch.setenv("DPP_API_KEY", tenant["api_key"])

    first = dpp("run", "list", "--limit", "2", "--json").document
    rest = dpp("run", "list", "--cursor", first["next_cursor"], "--json").document
    table = dpp("run", "list")

    assert [run["run_id"] for run in first["items"] + rest["items"]] == made[::-1]
    assert rest["next_cursor"] is None
    assert all(run_id in table.out for run_id in made)


def test_a_run_of_another_tenant_is_not_there(dpp: Dpp, tenant: dict[str, Any]) -> None:
    run_id = submit(dpp, tenant).document["run_id"]
    other = dpp(
        "tenant", "create", f"o-{uuid.uuid4().hex[:8]}", "--plan", "basic", "--json"
    ).document

    refused = dpp("run", "show", run_id, "--api-key", other["api_key"], "--json")

    assert (refused.status, refused.document["error"]["code"]) == (1, "not-found")


def test_the_audit_proves_the_books(dpp: Dpp, tenant: dict[str, Any]) -> None:
    submit(dpp, tenant, "--input", 'cost_usd="0.05"', "--wait")

    audit = dpp("audit", "--json")
    table = dpp("audit")

    assert (audit.status, audit.document["ok"], audit.document["findings"]) == (Exit.GOOD, True, [])
    assert audit.document["invariants"]
    assert table.out.endswith("invariants hold\n")


def test_a_wrong_token_is_refused(
    dpp: Dpp, served_node: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DPP_MANAGEMENT_URL", served_node.management_url)
    monkeypatch.setenv("DPP_ADMIN_TOKEN", "x" * 43)

    refused = dpp("tenant", "list", "--json")

    assert (refused.status, refused.document["error"]["code"]) == (1, "unauthorized")


def test_a_remote_node_is_asked_by_url_and_token(
    dpp: Dpp, served_node: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (served_node.data_dir / "admin.token").read_text().strip()
    monkeypatch.setenv("DPP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DPP_MANAGEMENT_URL", served_node.management_url)
    monkeypatch.setenv("DPP_ADMIN_TOKEN", token)

    assert dpp("tenant", "list", "--json").status == Exit.GOOD


def test_a_second_node_on_the_same_directory_ends_with_78(dpp: Dpp, served_node: Served) -> None:
    refused = dpp("serve", "--listen", "127.0.0.1:0", "--management", "127.0.0.1:0", "--json")

    assert refused.status == Exit.CONFIGURATION
    assert refused.document["error"]["code"] == "data-directory"
    assert str(served_node.data_dir) in refused.err


def test_a_configuration_that_is_wrong_keeps_nobody_from_the_node_that_runs(
    dpp: Dpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the one it has; so at three in the morning it can still be drained."""
    wrong = tmp_path / "dpp.toml"
    wrong.write_text("[nod]\n")

    ended = dpp("node", "list", "--config", str(wrong), "--json")
    monkeypatch.delenv("DPP_DATA_DIR")
    unnamed = dpp("node", "list", "--config", str(wrong), "--json")

    assert (ended.status, len(ended.document["items"])) == (Exit.GOOD, 1)
    assert "dpp config check" in ended.err
    assert unnamed.status == Exit.CONFIGURATION
