"""Sending: real connections and real TLS, to where the guard lets them, and within all limits."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import pytest
import trio
from attrs import define, field

from dpp.egress import Rules
from dpp.outgoing.pinned import Allowance, OwnListener, Pinned
from dpp.outgoing.sender import ANSWER_MAX, Answered, Outcome, Sender, SystemResolver, Unanswered
from tests import receiver as acts
from tests.receiver import Behave, Receiver, receiving, status_alone, trusting

NAME = "hooks.example.com"
BODY = b'{"a":1}'
SOON_S = 0.5  # in the place of ten seconds


@define
class Names:
    """A resolver that knows what it is told, and writes down what it was asked."""

    known: dict[str, list[Sequence[str]]] = field(factory=dict)
    asked: list[str] = field(factory=list)

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        """Answer the next of this name's answers, the last one again and again."""
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        answers = self.known.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def sender(to: Receiver, *own: int, names: Names | None = None, send_s: float = 10.0) -> Sender:
    """Return a sender that may send to this receiver."""
    return Sender(
        Rules(frozenset({443, to.port}), allow_loopback=True, own_ports=frozenset(own)),
        names or Names({NAME: [["127.0.0.1"]]}),
        trusting(),
        send_s,
    )


async def sent(to: Receiver, **values: float) -> Outcome:
    """Send to the receiver."""
    return await sender(to, **values).post(to.url(), {"x-a": "b"}, BODY)


async def test_a_request_arrives_whole_under_the_name_that_was_meant() -> None:
    async with receiving(certificate="receiver.pem") as to:
        names = Names({NAME: [["127.0.0.1"]]})

        outcome = await sender(to, names=names).post(to.url("/a?b=c", NAME), {"x-a": "b"}, BODY)

    (request,) = to.received
    assert outcome == Answered(204)
    assert names.asked == [NAME]
    assert (request.target, request.body, request.sni) == ("/a?b=c", BODY, NAME)
    assert request.headers["host"] == f"{NAME}:{to.port}"
    assert request.headers["x-a"] == "b"
    assert set(request.headers) == {"host", "connection", "x-a", "content-length"}


async def test_a_name_that_rebinds_after_it_was_vetted_leads_nowhere_else() -> None:
    names = Names({NAME: [["127.0.0.1"], ["10.0.0.1"]]})
    async with receiving(certificate="receiver.pem") as to:
        one = sender(to, names=names)

        first = await one.post(to.url(host=NAME), {}, BODY)
        second = await one.post(to.url(host=NAME), {}, BODY)

    assert first == Answered(204)  # asked once: connecting asked nobody anew
    assert isinstance(second, Unanswered)
    assert second.why.startswith("refused")
    assert names.asked == [NAME, NAME]
    assert len(to.received) == 1


@pytest.mark.parametrize(
    "found", [["127.0.0.1", "10.0.0.1"], ["169.254.169.254"], ["::ffff:10.0.0.1"], []]
)
async def test_nothing_is_sent_where_one_address_is_bad(found: list[str]) -> None:
    async with receiving(certificate="receiver.pem") as to:
        names = Names({NAME: [found]})

        outcome = await sender(to, names=names).post(to.url(host=NAME), {}, BODY)

    assert isinstance(outcome, Unanswered)
    assert outcome.why.startswith("refused")
    assert to.connections == 0


async def test_loopback_is_refused_where_it_is_not_allowed() -> None:
    async with receiving(certificate="receiver.pem") as to:
        names = Names({NAME: [["127.0.0.1"]]})
        strict = Sender(Rules(frozenset({443, to.port})), names, trusting())

        by_name = await strict.post(to.url(host=NAME), {}, BODY)
        by_number = await strict.post(to.url(), {}, BODY)

    assert by_name == Unanswered("refused: resolved to what is no public address")
    assert isinstance(by_number, Unanswered)
    assert to.connections == 0


async def test_the_nodes_own_listeners_are_never_sent_to() -> None:
    async with receiving(certificate="receiver.pem") as to:
        own = sender(to, to.port)

        by_number = await own.post(to.url(), {}, BODY)
        by_name = await own.post(to.url(host=NAME), {}, BODY)

    assert isinstance(by_number, Unanswered)
    assert by_name == Unanswered("refused: resolved to this node itself")
    assert to.connections == 0


async def test_a_connection_that_ends_at_an_own_listener_is_closed_before_a_byte_is_sent() -> None:
    """As when the machine's public address is that of the listener: no rule tells that before."""
    async with receiving() as to:
        rules = Rules(allow_loopback=True, own_ports=frozenset({to.port}))
        backend = Pinned([ipaddress.ip_address("127.0.0.1")], rules, Allowance(1))

        with pytest.raises(OwnListener):
            await backend.connect_tcp("93.184.216.34", to.port)

    assert to.received == []


@pytest.mark.parametrize("certificate", ["self_signed.pem", "receiver.pem"])
async def test_a_receiver_that_cannot_prove_its_name_is_told_nothing(certificate: str) -> None:
    name = "elsewhere.example.com" if certificate == "receiver.pem" else NAME
    async with receiving(certificate=certificate) as to:
        names = Names({name: [["127.0.0.1"]]})

        outcome = await sender(to, names=names).post(to.url(host=name), {}, BODY)

    assert outcome == Unanswered("TLS failed")
    assert to.received == []


@pytest.mark.parametrize(
    ("behave", "status"),
    [
        (acts.say(200, b"thanks"), 200),
        (acts.say(500, b"oops"), 500),
        (acts.say(302, b"", ("Location", "http://169.254.169.254/")), 302),
        (acts.say(301, b"", ("Location", "/hook")), 301),  # a loop, where it is followed
        (acts.bomb, 200),
        (acts.flood, 200),
        (acts.dribble, 200),  # its status is known; what follows says nothing
    ],
)
async def test_an_answer_is_its_status_whatever_else_it_is(behave: Behave, status: int) -> None:
    async with receiving(behave) as to:
        outcome = await sent(to, send_s=SOON_S)

        assert isinstance(outcome, Answered)
        assert outcome.status == status
        assert len(outcome.body) <= ANSWER_MAX
        assert len(to.received) == to.connections == 1  # no redirect was followed


async def test_a_flood_is_cut_and_not_drunk_up() -> None:
    """What the other side could put into the buffers between is some megabytes, of 10 GiB."""
    async with receiving(acts.flood) as to:
        await sent(to)
        await to.until_over(1)

    assert to.sent[0] < 64 << 20


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (acts.hang, "timeout"),
        (acts.slow(5), "timeout"),
        (acts.dribble_head, "timeout"),
        (acts.lose, "connection lost"),
        (acts.babble, "connection lost"),
        (acts.flood_head, "answer too long"),
    ],
)
async def test_no_answer_is_told_in_our_own_words(behave: Behave, why: str) -> None:
    async with receiving(behave) as to:
        assert await sent(to, send_s=SOON_S) == Unanswered(why)


async def test_a_name_server_that_hangs_takes_no_more_than_the_whole_may() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await trio.sleep_forever()
        raise AssertionError

    one = Sender(Rules(), resolve, trusting(), send_s=0.05)

    with trio.fail_after(5):
        assert await one.post(f"https://{NAME}/", {}, BODY) == Unanswered("timeout")


async def test_an_unknown_name_and_a_closed_port_are_told_apart() -> None:
    async with receiving() as gone:
        pass
    one = sender(gone)

    assert await one.post(gone.url(), {}, BODY) == Unanswered("no connection")
    assert await one.post("https://nowhere.example.com/", {}, BODY) == Unanswered("name not found")


async def test_the_next_address_is_tried_where_the_first_does_not_answer() -> None:
    async with receiving(certificate="receiver.pem") as to:
        names = Names({NAME: [["127.0.0.9", "127.0.0.1"]]})  # nobody listens at the first

        outcome = await sender(to, names=names).post(to.url(host=NAME), {}, BODY)

    assert outcome == Answered(204)


async def test_no_proxy_of_the_environment_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as to:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))

        assert await sent(to) == Answered(204)

    assert proxy.connections == 0


async def test_the_system_is_asked_for_names() -> None:
    assert "127.0.0.1" in await SystemResolver()("localhost", 443)
    with pytest.raises(OSError, match=r".*"):
        await SystemResolver()("no-such-name.invalid", 443)


async def test_a_receiver_that_ends_no_answer_holds_its_place_no_longer_for_it() -> None:
    async with receiving(status_alone) as to:
        with trio.fail_after(60):
            outcome = await sender(to, send_s=600.0).post(to.url(), {}, BODY)

    assert outcome == Answered(200)
