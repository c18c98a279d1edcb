"""What `voice_streaming/rtc` uses of aioice beyond what it promises.

Each test fails with a sentence that says where to look when a new version no longer fits.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import aioice.ice
import pytest
from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, server_reflexive_candidate
from aioice.ice import Connection as IceConnection

from tests.support.contract import changed, pair, parameters
from tests.support.rtc_client import new_peer


async def test_the_ice_connection_of_a_transport() -> None:
    where = changed("RTCIceTransport._connection is an aioice Connection", "peer.py")
    peer = new_peer()
    transport = peer.addTransceiver("audio").receiver.transport.transport
    connection = getattr(transport, "_connection", None)
    assert isinstance(connection, IceConnection), where
    assert transport.iceGatherer._connection is connection, where
    for name, kind in {"_nominated": dict, "_protocols": list, "_local_candidates": list}.items():
        assert isinstance(getattr(connection, name, None), kind), changed(f"Connection.{name}", "peer.py")
    for name in ("_local_candidates_start", "_local_candidates_end"):
        assert getattr(connection, name, None) is False, changed(f"Connection.{name} is False at first", "peer.py")
    assert connection.stun_server is None, changed("Connection.stun_server", "peer.py")
    assert connection.remote_password is None, changed("Connection.remote_password", "consent.py")
    connection._local_username = "ours"
    assert connection.local_username == "ours", changed("Connection._local_username", "peer.py, port.py")
    assert transport.iceGatherer.getLocalParameters().usernameFragment == "ours", where
    await peer.close()


async def test_gathering_goes_through_what_is_set_on_the_connection() -> None:
    peer = new_peer()
    peer.addTransceiver("audio")
    connection: Any = peer.getTransceivers()[0].receiver.transport.transport._connection
    called: list[str] = []
    gather = connection.gather_candidates

    async def gather_candidates() -> None:
        called.append("gather_candidates")
        await gather()

    async def get_component_candidates(component: int, addresses: list[str]) -> list[Candidate]:
        called.append("get_component_candidates")
        return [Candidate("1", component, "udp", 1, "127.0.0.1", 9, "host")]

    connection.gather_candidates = gather_candidates
    connection.get_component_candidates = get_component_candidates
    await peer.setLocalDescription(await peer.createOffer())
    assert called == ["gather_candidates", "get_component_candidates"], changed(
        "RTCIceGatherer awaits connection.gather_candidates(), and that get_component_candidates(component, addresses)",
        "peer.py",
    )
    assert [candidate.port for candidate in connection._local_candidates] == [9], changed(
        "Connection._local_candidates is what a description lists", "peer.py"
    )
    assert connection._local_candidates_start, changed("_local_candidates_start, set when gathering begins", "peer.py")
    assert connection._local_candidates_end, changed("_local_candidates_end, set when gathering is done", "peer.py")
    assert " 9 typ host" in peer.localDescription.sdp
    await peer.close()


async def test_a_nomination_goes_through_check_complete() -> None:
    where = changed("Connection.check_complete(pair), called on the instance, sets _nominated[1]", "peer.py")
    assert parameters(IceConnection.check_complete) == ["self", "pair"], where
    nominated: list[CandidatePair] = []
    async with pair() as both:

        def check_complete(pair: CandidatePair) -> None:
            IceConnection.check_complete(both.ice, pair)
            nominated.extend(both.ice._nominated.values())

        both.ice.check_complete = check_complete  # type: ignore[method-assign]
        await both.connect()
        chosen = both.ice._nominated.get(1)
        assert chosen is not None, where
        assert chosen in nominated, where
        assert chosen.protocol in both.ice._protocols, where
        assert chosen.remote_addr[0] == "127.0.0.1", changed("CandidatePair.remote_addr is (host, port)", "peer.py")


async def test_the_consent_task_is_made_of_what_is_set_on_the_connection() -> None:
    where = changed(
        "Connection.connect makes a task of self.query_consent(), and close takes one that is done", "peer.py"
    )
    calls = []
    async with pair() as both:

        async def query_consent() -> None:
            calls.append(1)

        both.ice.query_consent = query_consent  # type: ignore[method-assign]
        await both.connect()
        await asyncio.sleep(0)
        assert calls == [1], where
        await asyncio.wait_for(both.offering.close(), 5)


async def test_a_request_for_consent_is_built_by_the_connection() -> None:
    where = changed("Connection.build_request(pair, nominate) is an unsigned binding request", "consent.py")
    assert parameters(IceConnection.build_request) == ["self", "pair", "nominate"], where
    async with pair() as both:
        await both.connect()
        request = both.ice.build_request(both.ice._nominated[1], nominate=False)
        assert request.message_class == stun.Class.REQUEST, where
        assert "MESSAGE-INTEGRITY" not in request.attributes, where
        assert request.attributes["USERNAME"] == f"{both.ice.remote_username}:{both.ice.local_username}", where
        assert "USE-CANDIDATE" not in request.attributes, where


async def test_a_stun_protocol_is_made_without_a_socket() -> None:
    where = changed("StunProtocol(connection) with .receiver, .transactions and no socket yet", "port.py")
    assert parameters(StunProtocol.__init__) == ["self", "receiver"], where
    connection = IceConnection(ice_controlling=True)
    protocol = StunProtocol(connection)
    assert protocol.receiver is connection, where
    assert protocol.transactions == {}, where


def test_the_calls_between_a_protocol_and_its_connection_have_the_known_arguments() -> None:
    expected: dict[Callable[..., Any], list[str]] = {
        StunProtocol.request: ["self", "request", "addr", "integrity_key", "retransmissions"],
        StunProtocol.send_stun: ["self", "message", "addr"],
        StunProtocol.send_data: ["self", "data", "addr"],
        StunProtocol.close: ["self"],
        IceConnection.request_received: ["self", "message", "addr", "protocol"],
        IceConnection.data_received: ["self", "data", "component"],
        IceConnection.get_component_candidates: ["self", "component", "addresses", "timeout"],
        stun.Transaction.response_received: ["self", "message", "addr"],
        stun.Message.add_message_integrity: ["self", "key"],
        stun.Message.check_message_integrity: ["self", "key"],
        stun.parse_message: ["data"],
        server_reflexive_candidate: ["protocol", "stun_server"],
    }
    for function, names in expected.items():
        assert parameters(function) == names, changed(f"{function.__qualname__}({', '.join(names)})", "port.py")
    for awaited in (StunProtocol.request, StunProtocol.send_data, StunProtocol.close):
        assert inspect.iscoroutinefunction(awaited), changed(f"{awaited.__qualname__} is awaited", "port.py")
    for called in (StunProtocol.send_stun, IceConnection.request_received, IceConnection.data_received):
        assert not inspect.iscoroutinefunction(called), changed(f"{called.__qualname__} is not awaited", "port.py")


class Port(StunProtocol):
    """A protocol without a socket: what it is asked to send, it keeps."""

    def __init__(self, connection: IceConnection) -> None:
        super().__init__(connection)
        self.sent: list[tuple[stun.Message, tuple[str, int]]] = []
        self.closed = False
        self.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", "127.0.0.1"),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "host"),
            host="127.0.0.1",
            port=9,
            type="host",
        )

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        self.sent.append((message, addr))

    async def close(self) -> None:
        self.closed = True


def check_for(connection: IceConnection, password: str, **attributes: Any) -> stun.Message:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes.update({"USERNAME": f"{connection.local_username}:them", "PRIORITY": 1, **attributes})
    request.add_message_integrity(password.encode())
    return stun.parse_message(bytes(request))


async def test_success_is_answered_only_to_who_knows_our_password() -> None:
    """`PeerPort.send_stun` takes the address of a success as proven: media from there is taken from then on."""
    where = changed("Connection.request_received answers RESPONSE only to an authentic request", "port.py")
    connection = IceConnection(ice_controlling=True)
    port = Port(connection)
    address = ("127.0.0.1", 5)
    connection.request_received(check_for(connection, "wrong password here!!!!"), address, port)
    other_name = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    other_name.attributes.update({"USERNAME": "other:them", "PRIORITY": 1})
    other_name.add_message_integrity(connection.local_password.encode())
    connection.request_received(stun.parse_message(bytes(other_name)), address, port)
    connection.request_received(stun.Message(stun.Method.BINDING, stun.Class.REQUEST), address, port)
    assert {message.message_class for message, _ in port.sent} == {stun.Class.ERROR}, where
    connection.request_received(check_for(connection, connection.local_password), address, port)
    message, to = port.sent[-1]
    assert (message.message_class, to) == (stun.Class.RESPONSE, address), where


async def test_a_request_of_the_protocol_is_a_transaction_that_its_answer_ends() -> None:
    where = changed("StunProtocol.request sends by self.send_stun and waits in self.transactions", "port.py")
    port = Port(IceConnection(ice_controlling=True))
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    asked = asyncio.create_task(port.request(request, ("127.0.0.1", 5), integrity_key=b"password"))
    await asyncio.sleep(0)
    assert [message for message, _ in port.sent] == [request], where
    transaction = port.transactions[request.transaction_id]
    forged = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id)
    transaction.response_received(forged, ("127.0.0.1", 5))
    await asyncio.sleep(0)
    assert not asked.done(), changed("Transaction.response_received ignores what is not authentic", "port.py")
    forged.add_message_integrity(b"password")
    answer = stun.parse_message(bytes(forged))
    transaction.response_received(answer, ("127.0.0.1", 5))
    assert await asyncio.wait_for(asked, 5) == (answer, ("127.0.0.1", 5)), where
    assert port.transactions == {}, where


async def test_protocols_are_closed_with_their_connection() -> None:
    connection = IceConnection(ice_controlling=True)
    port = Port(connection)
    connection._protocols.append(port)
    await connection.close()
    assert port.closed, changed("Connection.close awaits close() of all in _protocols", "port.py")
    assert connection._protocols == [], changed("Connection.close clears _protocols", "peer.py")
    assert connection._nominated == {}, changed("Connection.close clears _nominated", "peer.py")
    before = len(port.sent)
    connection.request_received(check_for(connection, connection.local_password), ("127.0.0.1", 5), port)
    assert len(port.sent) == before, changed("a closed Connection answers no request", "port.py")


async def test_the_monitor_of_a_closed_connection_never_rests() -> None:
    """Which is why `Peer` gives it an event of its own: it would stop the whole program."""
    where = changed("RTCIceTransport._monitor asks connection.get_event(), which is None once closed", "peer.py")
    peer = new_peer()
    transport: Any = peer.addTransceiver("audio").receiver.transport.transport
    connection = transport._connection
    await connection.close()
    assert await connection.get_event() is None, where
    asked = []

    async def get_event() -> Any:
        asked.append(1)
        return None if len(asked) < 100 else aioice.ice.ConnectionClosed()

    connection.get_event = get_event
    await transport._monitor()
    assert len(asked) == 100, "aiortc is mended: `Peer._next_ice_event` is not needed any more"
    await peer.close()


async def test_received_data_waits_in_a_queue_without_a_bound() -> None:
    """Which is why `PeerPort` counts before it adds."""
    connection = IceConnection(ice_controlling=True)
    for _ in range(1_000):
        connection.data_received(b"dtls", 1)
    assert connection._queue.qsize() == 1_000, changed("Connection._queue holds what data_received gets", "port.py")


def test_whatever_a_hostile_message_holds_is_a_value_error_or_worse() -> None:
    """Which is why `PeerPort` catches everything."""
    with pytest.raises(ValueError, match="STUN"):
        stun.parse_message(bytes(10))
    username = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes={"USERNAME": "ab"})
    with pytest.raises(UnicodeDecodeError):
        stun.parse_message(bytes(username).replace(b"ab", b"\xff\xff"))


async def test_a_connection_of_our_own_for_a_restart() -> None:
    where = changed("Connection(ice_controlling, stun_server=...) with remote_username, -password, -is_lite", "peer.py")
    connection = IceConnection(ice_controlling=True, stun_server=None)
    for name in ("remote_username", "remote_password", "remote_is_lite", "ice_controlling"):
        assert hasattr(connection, name), where
    waiting = asyncio.create_task(IceConnection.get_event(connection))
    await asyncio.sleep(0)
    await connection.close()
    assert isinstance(await asyncio.wait_for(waiting, 5), aioice.ice.ConnectionClosed), changed(
        "Connection.get_event ends with close", "peer.py"
    )


async def test_checks_that_never_hear_of_the_end_of_candidates_end_with_the_connection() -> None:
    where = changed("Connection.connect waits on while candidates may come, and raises ConnectionError at close", "ice")
    connection = IceConnection(ice_controlling=True)
    connection._local_candidates_end = True
    connection.remote_username, connection.remote_password = "them", "their password"
    connecting = asyncio.create_task(connection.connect())
    await asyncio.sleep(0.05)
    assert not connecting.done(), where
    await connection.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(connecting, 5)


async def test_a_transaction_is_given_up_after_its_retransmissions() -> None:
    where = changed(
        "StunProtocol.request(retransmissions=1) raises TransactionError after 0.5 s and 1 s", "ice_port.py"
    )
    assert (aioice.stun.RETRY_RTO, issubclass(stun.TransactionTimeout, stun.TransactionError)) == (0.5, True), where
    port = Port(IceConnection(ice_controlling=True))
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    with pytest.raises(stun.TransactionError):
        await asyncio.wait_for(port.request(request, ("127.0.0.1", 5), b"key", retransmissions=1), 2)
    assert len(port.sent) == 2, where
