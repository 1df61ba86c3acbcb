"""Bad input of every kind: a clear 4xx, nothing written, nothing reserved, the process unharmed."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.http.api.conftest import NewTenant, Untouched
from tests.http.test_bad_http import REFUSED
from tests.http.test_wire import BAD_MONEY
from tests.node_client import Client, name_of, problem, send_raw, submission
from tests.node_process import NodeProcess

JSON = {"Content-Type": "application/json"}
GOOD = b'{"pack_type":"echo","inputs":{},"max_cost_usd":"0.01"}'


@pytest.fixture(scope="session")
def served_node(first_node: NodeProcess) -> NodeProcess:
    """Give the default server: what is refused here is refused by what stands behind either."""
    return first_node


def shown(value: object) -> str:
    """Return a short name for a case."""
    text = ascii(value)
    return text if len(text) < 40 else f"{text[:30]}…{len(text)}"


async def post(client: Client, content: bytes, **headers: str) -> Any:
    """Send exactly this body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"Idempotency-Key": "never-used", **JSON, **named}
    return await client.ask("POST", "/v1/runs", content=content, headers=sent)


# ── money ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("amount", BAD_MONEY, ids=shown)
async def test_amount_that_is_no_money_is_422_and_names_the_field(
    shared: Client, untouched: Untouched, amount: Any
) -> None:
    async with untouched(shared):
        answer = await shared.submit(max_cost_usd=amount)
        item = (await shared.batch([submission(idempotency_key="b", max_cost_usd=amount)]))[0]

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/max_cost_usd"]
    assert (item["status"], name_of(item["problem"])) == (422, "invalid-request")


@pytest.mark.parametrize("amount", BAD_MONEY, ids=shown)
@pytest.mark.parametrize("way", ["deposits", "withdrawals"])
async def test_operators_amount_that_is_no_money_is_422(
    served_node: NodeProcess, acme: Client, untouched: Untouched, amount: Any, way: str
) -> None:
    path = f"/admin/v1/tenants/{acme.name}/{way}"
    async with untouched(acme):
        answer = served_node.ask_admin("POST", path, {"amount_usd": amount, "reference": "r"})

    assert (answer.status_code, name_of(answer.json())) == (422, "invalid-request")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/amount_usd"]


@pytest.mark.parametrize(
    ("amount", "status", "name"),
    [
        ("10.000001", 402, "budget-exceeded"),
        ("1000000", 402, "budget-exceeded"),
        ("0.004999", 422, "max-cost-too-low"),
        ("0.000001", 422, "max-cost-too-low"),
    ],
)
async def test_amount_over_the_balance_or_under_the_fee_is_refused(
    shared: Client, untouched: Untouched, amount: str, status: int, name: str
) -> None:
    async with untouched(shared):
        answer = await shared.submit(max_cost_usd=amount)

    assert (answer.status_code, problem(answer)) == (status, name)


async def test_exactly_the_balance_and_six_decimals_are_good(new_tenant: NewTenant) -> None:
    client = await new_tenant(deposit_usd="0.123456")

    run = await client.ended((await client.submitted(max_cost_usd="0.123456"))["run_id"])

    assert run["status"] == "COMPLETED"
    assert run["cost"]["max_usd"] == "0.123456"


@pytest.mark.parametrize("cost", [1, "-1", "1e3", "0.0000001", None, True, "NaN"], ids=shown)
async def test_money_in_the_inputs_of_a_pack_is_as_strict(
    shared: Client, untouched: Untouched, cost: Any
) -> None:
    async with untouched(shared):
        answer = await shared.submit(inputs={"cost_usd": cost})

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/inputs/cost_usd"]


# ── Idempotency-Key ──────────────────────────────────────────────────────────────────────────────

KEYS: dict[str, tuple[list[bytes], str]] = {
    "absent": ([], "idempotency-key-missing"),
    "empty": ([b""], "idempotency-key-invalid"),
    "blank": ([b"   "], "idempotency-key-invalid"),
    "empty string": ([b'""'], "idempotency-key-invalid"),
    "256": ([b"k" * 256], "idempotency-key-invalid"),
    "256 quoted": ([b'"' + b"k" * 256 + b'"'], "idempotency-key-invalid"),
    "10,000": ([b"k" * 10_000], "idempotency-key-invalid"),
    "two lines, the same": ([b"k", b"k"], "idempotency-key-invalid"),
    "two lines": ([b"a", b"b"], "idempotency-key-invalid"),
    "a good and an empty line": ([b"a", b""], "idempotency-key-invalid"),
    "comma": ([b"a,b"], "idempotency-key-invalid"),
    "semicolon": ([b"a;b"], "idempotency-key-invalid"),
    "parameters": ([b'"a";b=1'], "idempotency-key-invalid"),
    "list of strings": ([b'"a", "b"'], "idempotency-key-invalid"),
    "one quote before": ([b'"a'], "idempotency-key-invalid"),
    "one quote behind": ([b'a"'], "idempotency-key-invalid"),
    "quote inside": ([b'"a"b"'], "idempotency-key-invalid"),
    "escaped quote": ([b'"a\\"b"'], "idempotency-key-invalid"),
    "backslash": ([b"a\\b"], "idempotency-key-invalid"),
    "blank inside": ([b"a b"], "idempotency-key-invalid"),
    "blank inside quotes": ([b'" a "'], "idempotency-key-invalid"),
    "tab": ([b"a\tb"], "idempotency-key-invalid"),
    "SQL": ([b"'; DROP TABLE submissions --"], "idempotency-key-invalid"),
    "UTF-8": ("é".encode().splitlines(), "idempotency-key-invalid"),
    "latin-1": ([b"\xe9"], "idempotency-key-invalid"),
    "emoji": (["💸".encode()], "idempotency-key-invalid"),
    "no-break space": ([b"a\xa0b"], "idempotency-key-invalid"),
    "CR": ([b"a\rb"], "malformed-http"),
    "LF": ([b"a\nb"], "malformed-http"),
    "CR LF and a header": ([b"a\r\nX-Other b"], "malformed-http"),
    "folded": ([b"a\r\n b"], "malformed-http"),
    "NUL": ([b"a\0b"], "malformed-http"),
    "DEL": ([b"a\x7fb"], "idempotency-key-invalid"),
}
ODD_KEYS = [
    *("k" * 255, "%0d%0a", "../../etc", "{{7*7}}", "$(id)", "'--", "<script>", "a:b@c", "!", "~"),
    "0",
]


def with_keys(key: str, lines: list[bytes], body: bytes = GOOD) -> bytes:
    """Return a submission with these Idempotency-Key lines, whatever bytes they hold."""
    head = (
        f"POST /v1/runs HTTP/1.1\r\nHost: dpp\r\nAuthorization: Bearer {key}\r\n"
        f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    ).encode()
    return head + b"".join(b"Idempotency-Key: %b\r\n" % line for line in lines) + b"\r\n" + body


@pytest.mark.parametrize("case", KEYS)
async def test_bad_key_is_400(
    served_node: NodeProcess, shared: Client, untouched: Untouched, case: str
) -> None:
    lines, name = KEYS[case]
    assert shared.key is not None
    async with untouched(shared):
        answer = await send_raw(served_node.url, with_keys(shared.key, lines))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 "), answer
    assert name_of(json.loads(body)) == name


async def test_odd_but_good_keys_name_a_run_each_and_are_found_again(acme: Client) -> None:
    runs = [await acme.submitted(idempotency_key=key) for key in ODD_KEYS]
    again = [await acme.submit(idempotency_key=f'"{key}"') for key in ODD_KEYS]
    found = [(await acme.get("/v1/runs", idempotency_key=key))["items"] for key in ODD_KEYS]

    ids = [run["run_id"] for run in runs]
    assert len({*ids}) == len(ODD_KEYS)
    assert [answer.json()["run_id"] for answer in again] == ids
    assert [[run["run_id"] for run in some] for some in found] == [[run_id] for run_id in ids]
    assert [run["idempotency_key"] for run in runs] == ODD_KEYS


async def test_blanks_around_a_key_are_not_of_it(served_node: NodeProcess, acme: Client) -> None:
    assert acme.key is not None
    for line in (b"k", b"  k  ", b'\t"k"\t'):
        answer = await send_raw(served_node.url, with_keys(acme.key, [line]))
        assert answer.startswith(b"HTTP/1.1 201 "), answer

    assert len((await acme.get("/v1/runs"))["items"]) == 1


@pytest.mark.parametrize(
    "key",
    ["", " ", "a b", '"a"', "a,b", "a;b", "é", "k" * 256, "\t", "\n", 1, None, True, [], {}],
    ids=shown,
)
async def test_bad_key_in_a_batch_is_its_items_400(
    shared: Client, untouched: Untouched, key: Any
) -> None:
    async with untouched(shared):
        item = (await shared.batch([submission(idempotency_key=key)]))[0]

    assert (item["status"], name_of(item["problem"])) == (400, "idempotency-key-invalid")


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────


def nested(depth: int) -> bytes:
    """Return a submission whose inputs make it that deep in all."""
    inside = b"[" * (depth - 2) + b"]" * (depth - 2)
    return b'{"pack_type":"echo","inputs":{"message":%b},"max_cost_usd":"0.01"}' % inside


def message(value: bytes) -> bytes:
    """Return a submission with this message, byte for byte."""
    return b'{"pack_type":"echo","inputs":{"message":%b},"max_cost_usd":"0.01"}' % value


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "null": b"null",
    "true": b"true",
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "max_cost_usd twice": GOOD[:-1] + b',"max_cost_usd":"0.02"}',
    "the same member twice": GOOD[:-1] + b',"pack_type":"echo"}',
    "twice by an escape": GOOD[:-1] + b',"p\\u0061ck_type":"echo"}',
    "twice inside": message(b'{"a":1,"a":1}'),
    "depth 33": nested(33),
    "depth 1,000": nested(1000),
    "depth 100,000": nested(100_000),
    "array of 300,000": message(b"[" + b"1," * 299_999 + b"1]"),
    "4,301 digits": message(b"1" * 4301),
    "2^53+1": message(str(2**53 + 1).encode()),
    "2^63": message(str(2**63).encode()),
    "-2^64": message(str(-(2**64)).encode()),
    "1e400": message(b"1e400"),
    "NaN": message(b"NaN"),
    "Infinity": message(b"Infinity"),
    "-Infinity": message(b"-Infinity"),
    "half a surrogate pair": message(b'"\\ud800"'),
    "halves around an escaped backslash": message(b'"\\ud800\\\\\\udc00"'),
    "half a pair as a name": message(b'{"\\udc00":1}'),
    "reversed pair": message(b'"\\udc00\\ud800"'),
    "NUL": message(b'"\\u0000"'),
    "NUL as a name": message(b'{"\\u0000":1}'),
    "NUL nested": message(b'[[{"a":["b\\u0000"]}]]'),
    "invalid UTF-8": message(b'"\xff"'),
    "overlong UTF-8": message(b'"\xc0\xaf"'),
    "surrogate in UTF-8": message(b'"\xed\xa0\x80"'),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "trailing comma": GOOD[:-1] + b",}",
    "garbage behind": GOOD + b"x",
    "two documents": GOOD + GOOD,
    "comment": b"/* x */" + GOOD,
    "line comment": GOOD + b"// x",
    "control character in a string": message(b'"\x01"'),
    "line feed in a string": message(b'"a\nb"'),
    "single quotes": GOOD.replace(b'"', b"'"),
    "hexadecimal": message(b"0x10"),
    "leading zero": message(b"01"),
    "plus": message(b"+1"),
    "bare point": message(b".5"),
    "open": GOOD[:-1],
    "mismatched": message(b"[}"),
}
UNKNOWN_MEMBERS: dict[str, tuple[bytes, str]] = {
    "tenant_id": (GOOD[:-1] + b',"tenant_id":"other"}', "/tenant_id"),
    "__proto__": (GOOD[:-1] + b',"__proto__":{}}', "/__proto__"),
    "constructor": (GOOD[:-1] + b',"constructor":{}}', "/constructor"),
    "homoglyph": (GOOD[:-1] + ',"inрuts":{}}'.encode(), "/inрuts"),
    "other case": (GOOD[:-1] + b',"Inputs":{}}', "/Inputs"),
    "10,000 characters": (GOOD[:-1] + b',"' + b"k" * 10_000 + b'":1}', "/" + "k" * 64 + "…"),
    "__proto__ of the pack": (GOOD.replace(b"{}", b'{"__proto__":1}'), "/inputs/__proto__"),
    "empty name": (GOOD[:-1] + b',"":1}', "/"),
    "pointer characters": (GOOD[:-1] + b',"a/b~c":1}', "/a~1b~0c"),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_body_that_is_no_strict_json_is_400(
    shared: Client, untouched: Untouched, case: str
) -> None:
    async with untouched(shared):
        answer = await post(shared, MALFORMED[case])

    assert (answer.status_code, problem(answer)) == (400, "malformed-json")


@pytest.mark.parametrize("case", UNKNOWN_MEMBERS)
async def test_unknown_member_is_422_and_named(
    shared: Client, untouched: Untouched, case: str
) -> None:
    body, pointer = UNKNOWN_MEMBERS[case]
    async with untouched(shared):
        answer = await post(shared, body)

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    "text",
    [
        "é💸\u2028",
        "\\u0000 spelt out",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
)
async def test_any_other_text_comes_back_as_it_was_sent(acme: Client, text: str) -> None:
    run = await acme.ended(
        (await acme.submitted(inputs={"message": [text, {text: None}]}))["run_id"]
    )

    assert run["result"] == {"message": [text, {text: None}]}


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), 1e308, 5e-324, 0.1, -0.0, 1.0, 1, [], {}, None], ids=shown
)
async def test_numbers_within_bounds_come_back_as_they_were_sent(acme: Client, value: Any) -> None:
    run = await acme.ended((await acme.submitted(inputs={"message": value}))["run_id"])

    assert json.dumps(run["result"]["message"]) == json.dumps(value)


async def test_depth_32_is_good(acme: Client) -> None:
    assert (await post(acme, nested(32))).status_code == 201


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Type": "text/plain"}, GOOD),
        ({"Content-Type": ""}, GOOD),
        ({"Content-Type": "application/x-ndjson"}, GOOD),
        ({"Content-Type": "application/json; charset=utf-16"}, GOOD.decode().encode("utf-16")),
        ({"Content-Type": "application/json; charset=latin-1"}, GOOD),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"pack_type=echo"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--"),
        ({"Content-Encoding": "gzip"}, gzip.compress(GOOD, mtime=0)),
        ({"Content-Encoding": "deflate"}, b"x"),
        ({"Content-Encoding": "br"}, b"x"),
        ({"Content-Encoding": "identity, gzip"}, b"x"),
    ],
    ids=shown,
)
async def test_body_that_is_said_to_be_something_else_is_415(
    shared: Client, untouched: Untouched, headers: dict[str, str], content: bytes
) -> None:
    async with untouched(shared):
        answer = await post(shared, content, **headers)

    assert (answer.status_code, problem(answer)) == (415, "unsupported-media-type")


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_of_one_byte_too_many_is_413_and_one_less_is_read(
    served_node: NodeProcess, shared: Client, untouched: Untouched, *, chunked: bool
) -> None:
    most = 1 << 20
    at_limit = GOOD + b" " * (most - len(GOOD))
    assert shared.key is not None

    def framed(body: bytes) -> bytes:
        length = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
        how = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
        return (
            b"POST /v1/runs HTTP/1.1\r\nHost: dpp\r\nConnection: close\r\nIdempotency-Key: a b\r\n"
            b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\n%b\r\n\r\n%b"
        ) % (str(shared.key).encode(), how, length)

    async with untouched(shared):
        over = await send_raw(served_node.url, framed(at_limit + b" ").replace(b"a b", b"ab"))
        just = await send_raw(served_node.url, framed(at_limit))

    assert over.startswith(b"HTTP/1.1 413 "), over[:200]
    assert just.startswith(b"HTTP/1.1 400 "), just[:200]  # its key is bad: so nothing is written


async def test_length_that_is_announced_over_the_limit_is_413_at_once(
    served_node: NodeProcess, shared: Client
) -> None:
    head = with_keys(str(shared.key), [b"k"], b"").replace(
        b"Content-Length: 0", b"Content-Length: 99999999"
    )

    answer = await send_raw(served_node.url, head)  # no byte of the body was sent

    assert answer.startswith(b"HTTP/1.1 413 "), answer


# ── packs ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("members", "name"),
    [
        *(
            ({"pack_type": pack}, "pack-unknown")
            for pack in ("nothing", "Echo", "echo ", "../echo", "dpp.packs.echo", "e\u0441ho")
        ),
        *(({"pack_type": pack}, "invalid-request") for pack in ("", "e" * 65, 1, None, ["echo"])),
        *(({"timebox_s": s}, "invalid-request") for s in (0, -1, 3601, 10**9, 1.5, 1.0, "1", True)),
        *(({"priority": p}, "invalid-request") for p in (-1, 10, 1.5, "5", True, None)),
        ({"inputs": []}, "invalid-request"),
        ({"inputs": ""}, "invalid-request"),
        ({"inputs": None}, "invalid-request"),
        ({"inputs": 1}, "invalid-request"),
        *(({"inputs": {"sleep_s": s}}, "invalid-request") for s in (-1, 3601, "1", True, None)),
        *(({"inputs": {"fail": f}}, "invalid-request") for f in (0, "true", None)),
        *(
            ({"pack_type": "decision", "max_cost_usd": "1", "inputs": inputs}, "invalid-request")
            for inputs in (
                {},
                {"question": ""},
                {"question": 1},
                {"question": "?", "options": ["a", "a"]},
                {"question": "?", "options": [""]},
                {"question": "?", "criteria": [{"name": "c", "weight": 0, "direction": "max"}]},
                {"question": "?", "criteria": [{"name": "c", "weight": -1, "direction": "max"}]},
                {"question": "?", "criteria": [{"name": "c", "weight": 1, "direction": "up"}]},
                {"question": "?", "criteria": [{"name": "c", "weight": True, "direction": "max"}]},
                {"question": "?", "options": ["a"], "scores": {"b": {}}},
                {"question": "?", "method": "guess"},
                {"question": "?", "scores": {"a": {"c": 1e16}}},
            )
        ),
    ],
    ids=shown,
)
async def test_submission_of_no_run_is_422(
    shared: Client, untouched: Untouched, members: dict[str, Any], name: str
) -> None:
    async with untouched(shared):
        answer = await shared.submit(**members)

    assert (answer.status_code, problem(answer)) == (422, name)


@pytest.mark.parametrize("member", ["pack_type", "inputs", "max_cost_usd"])
async def test_missing_member_is_422(shared: Client, untouched: Untouched, member: str) -> None:
    body = {name: value for name, value in submission().items() if name != member}
    async with untouched(shared):
        answer = await post(shared, json.dumps(body).encode())

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert answer.json()["errors"] == [{"pointer": f"/{member}", "message": "is required"}]


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_no_http_is_refused_and_the_node_goes_on(
    served_node: NodeProcess, shared: Client, untouched: Untouched
) -> None:
    async with untouched(shared):
        answers = {
            name: await send_raw(served_node.url, data, half_close=True)
            for name, data in REFUSED.items()
        }

    # 405: there is no POST to /, which is told before its body is read.
    starts = {name: answer[:12] for name, answer in answers.items()}
    assert set(starts.values()) <= {b"HTTP/1.1 400", b"HTTP/1.1 405"}, starts


@pytest.mark.parametrize(
    "path",
    [
        *("/v1", "/v1/", "/v1/runs/", "/v1//runs", "/V1/runs", "/v1/Runs", "/v1/runs/../runs"),
        *(
            "/v1/%2e%2e/admin/v1/tenants",
            "/v1/runs%2Fx",
            "/v1/runs;x=1",
            "/v2/runs",
            "/admin/v1/tenants",
        ),
        *(
            "/metrics",
            "/v1/runs:batchx",
            "/v1/runs:cancel",
            "/%00",
            "/v1/runs%00",
            "//v1/runs",
            "/.git/config",
        ),
    ],
)
async def test_path_that_is_none_of_ours_is_404(
    served_node: NodeProcess, shared: Client, path: str
) -> None:
    """Sent as it stands: a client would tidy it up."""
    lines = f"Host: dpp\r\nConnection: close\r\nAuthorization: Bearer {shared.key}\r\n"

    answer = await send_raw(served_node.url, f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 "), answer
    assert name_of(json.loads(body)) == "not-found"


async def test_method_override_is_not_heeded(shared: Client, untouched: Untouched) -> None:
    async with untouched(shared):
        answer = await shared.ask(
            "GET",
            "/v1/runs",
            headers={
                "X-HTTP-Method-Override": "POST",
                "X-Forwarded-For": "10.0.0.1",
                "Idempotency-Key": "k",
            },
        )

    assert answer.status_code == 200
