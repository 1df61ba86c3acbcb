"""The client is a library of its own: it loads nothing of the server, and names what it offers."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import Any

import pytest

import dpp.client
from dpp.client import AsyncClient, Client

# Of dpp beside the client itself: values without a driver, a loop or a server.
PURE = {"dpp", "dpp.money", "dpp.runs", "dpp.version"}
SERVER = {"trio", "asyncpg", "quart", "hypercorn", "msgspec", "structlog", "redis", "aioboto3"}


def test_it_loads_no_server_and_no_driver() -> None:
    script = "import json, sys, dpp.client; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60
    )

    loaded = set(json.loads(ended.stdout))
    ours = {name for name in loaded if name.partition(".")[0] == "dpp"}
    assert {name for name in ours if not name.startswith("dpp.client")} == PURE
    assert loaded & SERVER == set()


def test_all_that_it_offers_is_there() -> None:
    assert [name for name in dpp.client.__all__ if not hasattr(dpp.client, name)] == []
    assert dpp.client.__all__ == sorted(dpp.client.__all__)


def methods(client: type) -> dict[str, Any]:
    return {
        name: method
        for name, method in inspect.getmembers(client, callable)
        if not name.startswith("_") and name != "close"
    }


def test_both_clients_can_do_the_same_and_say_what() -> None:
    blocking, awaiting = methods(Client), methods(AsyncClient)

    assert blocking.keys() == awaiting.keys()
    assert [name for name, method in blocking.items() if not method.__doc__] == []
    for name, method in blocking.items():
        assert inspect.signature(method) == inspect.signature(awaiting[name]), name
        assert method.__doc__ == awaiting[name].__doc__


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_method_is_called_as_its_signature_says(client: type) -> None:
    parameters = list(inspect.signature(methods(client)["submit"]).parameters)

    assert parameters[1:4] == ["pack_type", "inputs", "max_cost"]
