from __future__ import annotations

from pathlib import Path

import pytest

from dpp.cli.exits import Exit
from tests.cli.conftest import Dpp


def test_the_defaults_are_right(dpp: Dpp) -> None:
    ended = dpp("config", "check", "--json")

    assert ended.status == Exit.GOOD
    assert ended.document == {"ok": True, "file": None, "warnings": [], "errors": []}


def test_all_mistakes_come_at_once_with_status_78(
    dpp: Dpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "dpp.toml"
    file.write_text('[node]\ndrain_s = "soon"\n[nonsense]\na = 1\n')
    monkeypatch.setenv("DPP_LEASE__LEASE_S", "never")

    ended = dpp("config", "check", "--config", str(file), "--json")

    assert ended.status == Exit.CONFIGURATION
    assert (ended.document["ok"], ended.document["file"]) == (False, str(file))
    keys = {error["key"] for error in ended.document["errors"]}
    assert keys == {"node.drain_s", "nonsense", "lease.lease_s"}
    assert all(key in ended.err for key in keys)


def test_a_command_that_needs_the_configuration_ends_with_78_where_it_is_wrong(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_NODE__DRAIN_S", "soon")

    ended = dpp("serve", "--json")

    assert ended.status == Exit.CONFIGURATION
    assert ended.document["error"]["code"] == "configuration"
    assert [wrong["key"] for wrong in ended.document["error"]["errors"]] == ["node.drain_s"]


def test_show_names_every_setting_its_value_and_who_gave_it_and_no_secret(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://me:canary@cache:6379/0")

    ended = dpp("config", "show", "--json")
    table = dpp("config", "show")

    redis = ended.document["redis"]["url"]
    assert redis == {"value": "redis://me:***@cache:6379/0", "origin": "REDIS_URL"}
    assert ended.document["http"]["listen"] == {"value": "127.0.0.1:8080", "origin": "default"}
    assert "canary" not in ended.out + ended.err + table.out + table.err
    assert "http.listen" in table.out


def test_show_says_what_is_in_use_a_line_a_setting_in_the_words_of_a_file(
    dpp: Dpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", "https://a.example,https://b.example")

    ended = dpp("config", "show", "--json")
    lines = [line.split(maxsplit=1) for line in dpp("config", "show").out.splitlines()]

    data_dir = {"value": str(tmp_path / "data"), "origin": "DPP_DATA_DIR"}
    assert ended.document["node"]["data_dir"] == data_dir
    shown = dict(lines)
    assert shown["node.data_dir"].startswith(f'"{tmp_path / "data"}"')
    assert shown["http.cors_allowed_origins"].startswith(
        '["https://a.example", "https://b.example"]'
    )
    assert shown["plans.basic.weight"].startswith("1 ")
    assert shown["management.token_file"].startswith('"" ')


def test_show_names_the_usual_directory_where_nobody_named_one(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DPP_DATA_DIR")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/elsewhere")

    shown = dpp("config", "show", "--json").document["node"]["data_dir"]

    assert shown["value"] == "/var/lib/elsewhere"
