"""What nats-py leaves open: requests at a disconnect, denials, timed-out flushes, errors of the server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from shanty_protocol import EntryAddress, MessageSent
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, create_layout
from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusRefused, BusUnavailable, ConfigError, PayloadTooLarge, PermissionDenied
from shanty_runtime.testing import AGENTS, bus_settings, nats_bus, nats_server, until

USERS = """
authorization { users: [
  { user: admin, password: a }
  { user: alpha, password: b, permissions: {
      publish: ["shanty.0.*.*.*.alpha.*", "$JS.API.CONSUMER.INFO.>"], subscribe: ["_INBOX.>"] } }
] }
"""


async def test_a_request_in_flight_fails_when_the_connection_breaks(server: EmbeddedServer) -> None:
    async with Bus(bus_settings(server)) as bus:
        asked = asyncio.Event()
        await bus.connection.listen("quiet", lambda _: asked.set())
        asking = asyncio.create_task(bus.connection.request("quiet", timeout_s=30))
        await asked.wait()
        began_s = time.monotonic()
        await server.kill9()
        with pytest.raises(BusUnavailable, match="broke"):
            await asking
        assert time.monotonic() - began_s < 5


async def test_a_request_without_a_connection_fails_at_once(bus: Bus, server: EmbeddedServer) -> None:
    await server.kill9()
    await until(lambda: not bus.connected)
    with pytest.raises(BusUnavailable, match="not connected"):
        await bus.connection.request("$JS.API.INFO")


async def test_listeners_hear_again_after_a_restart(bus: Bus, server: EmbeddedServer) -> None:
    heard: list[bytes] = []
    await bus.connection.listen("news", lambda message: heard.append(message.data))
    back = asyncio.Event()
    bus.connection.on_reconnect.append(back.set)
    await server.kill9()
    await server.start()
    await asyncio.wait_for(back.wait(), 10)
    for n in range(1_000):
        await bus.connection.publish("news", b"%0500d" % n)
    await bus.connection.flush()
    assert heard == [b"%0500d" % n for n in range(1_000)]


async def test_a_flush_that_times_out_leaves_the_connection_hearing(server: EmbeddedServer) -> None:
    settings = BusSettings(url=server.url, request_timeout_s=1.0)
    async with Bus(settings) as bus:
        heard: list[bytes] = []
        await bus.connection.listen("news", lambda message: heard.append(message.data))
        server.freeze()
        with pytest.raises(BusUnavailable):
            await bus.connection.flush()
        server.thaw()
        await bus.connection.publish("news", b"still there")
        await bus.connection.flush()
        assert heard == [b"still there"]


async def test_a_listener_that_fails_does_not_make_the_connection_deaf(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Incoming) -> None:
        raise RuntimeError("a bug")

    await bus.connection.listen("bad", fail)
    await bus.connection.publish("bad", b"")
    await bus.connection.request("$JS.API.INFO")
    assert "a bug" in caplog.text


async def test_a_write_the_account_may_not_make_raises_at_once(tmp_path: Path) -> None:
    async with nats_server(tmp_path, extra=USERS) as server:
        admin = BusSettings(url=server.url, user="admin", password="a")
        alpha = BusSettings(url=server.url, user="alpha", password="b", request_timeout_s=30)
        async with Bus(admin) as setup:
            await create_layout(setup, agents=AGENTS)
        async with Bus(alpha) as bus:
            entry = MessageSent(at_ms=1, to_thread="0", purpose="progress", text="forged")
            began_s = time.monotonic()
            with pytest.raises(PermissionDenied, match=r"shanty\.0\.lead\.0-run\.0-1\.beta\.0"):
                await bus.journals.append(EntryAddress("lead", "0-run", "0-1", "beta", 0), entry)
            with pytest.raises(PermissionDenied, match=r"shanty\.feed\.0\.beta"):
                await bus.feed.hear("0-run", "beta", print)
            pull = await bus.pull("0", "beta", "mail", 1)
            with pytest.raises(PermissionDenied, match="mail-beta"):
                await pull.next()
            assert time.monotonic() - began_s < 5
            assert (await bus.journals.append(EntryAddress("lead", "0-run", "0-1", "alpha", 0), entry)).ours


async def test_a_wrong_password_is_told_at_once(tmp_path: Path) -> None:
    async with nats_server(tmp_path, extra=USERS) as server:
        with pytest.raises(PermissionDenied, match="logging in"):
            await Bus(BusSettings(url=server.url, user="alpha", password="wrong", connect_timeout_s=30)).start()


async def test_starting_without_a_server_says_which_address_did_not_answer() -> None:
    bus = Bus(BusSettings(url="nats://127.0.0.1:1", connect_timeout_s=0.3))
    with pytest.raises(BusUnavailable, match=r"nats://127\.0\.0\.1:1"):
        await bus.start()
    await bus.stop()


async def test_a_bus_can_be_stopped_twice_and_before_it_was_started(server: EmbeddedServer) -> None:
    bus = Bus(bus_settings(server))
    await bus.stop()
    await bus.start()
    assert bus.connected
    await bus.stop()
    await bus.stop()
    assert not bus.connected


async def test_stopping_during_an_outage_does_not_hang(server: EmbeddedServer) -> None:
    async with nats_bus(server) as bus:
        await bus.pull("0", "alpha", "mail", 2)
        await server.kill9()
        async with asyncio.timeout(5):
            await bus.drain()


async def test_a_server_that_vanished_without_a_word_is_given_up(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shanty_runtime.bus.connection.PING_INTERVAL_S", 0.2)
    async with Bus(bus_settings(server)) as bus:
        server.freeze()
        asking = asyncio.create_task(bus.connection.request("$JS.API.INFO", timeout_s=60))
        for _ in range(15):  # more than the socket takes, so that there is something left to write
            await bus.connection.publish("news", b"x" * 500_000)
        with pytest.raises(BusUnavailable, match="broke"):
            await asyncio.wait_for(asking, 10)
        server.thaw()
        await bus.connection.persist("asking", lambda: bus.connection.request("$JS.API.INFO"))


async def test_stopping_does_not_wait_for_a_server_that_does_not_read(server: EmbeddedServer) -> None:
    async with asyncio.timeout(10):
        async with Bus(bus_settings(server)) as bus:
            server.freeze()
            for _ in range(15):
                await bus.connection.publish("news", b"x" * 500_000)
    server.thaw()


async def test_stopping_at_the_moment_of_a_disconnect_cancels_nobody(tmp_path: Path) -> None:
    for steps_later in range(6):
        async with nats_server(tmp_path / str(steps_later)) as server:
            bus = Bus(bus_settings(server))
            await bus.start()
            killing = asyncio.create_task(server.kill9())
            await _disconnected(bus)
            for _ in range(steps_later):
                await asyncio.sleep(0)
            await bus.stop()
            await killing


async def _disconnected(bus: Bus) -> None:
    async with asyncio.timeout(10):
        while True:  # without a pause: what is looked for lasts for a step or two of the event loop
            if not bus.connected:
                return
            await asyncio.sleep(0)


async def test_an_error_of_the_server_does_not_close_the_connection_for_good(server: EmbeddedServer) -> None:
    async with Bus(bus_settings(server)) as bus:
        back = asyncio.Event()
        bus.connection.on_reconnect.append(back.set)
        # The server answers an unknown command with an error and hangs up.
        await bus.connection._client._send_command(b"NONSENSE\r\n")
        await bus.connection._client._flush_pending()
        await asyncio.wait_for(back.wait(), 10)
        await bus.connection.request("$JS.API.INFO")


async def test_a_message_larger_than_the_bus_takes_is_refused_before_it_is_sent(bus: Bus) -> None:
    with pytest.raises(PayloadTooLarge, match="900000"):
        await bus.connection.publish("news", b"x" * 2**20, {"K": "v"})
    assert bus.connected


async def test_a_header_cannot_smuggle_in_another_and_a_subject_cannot_smuggle_in_a_command(bus: Bus) -> None:
    heard: list[Incoming] = []
    await bus.connection.listen("news", heard.append)
    await bus.connection.publish("news", b"x", {"a": "1\r\nb: 2", "c": "3"})
    with pytest.raises(BusRefused, match="not a subject"):
        await bus.connection.publish("news 0\r\n\r\nPUB other", b"x")
    await bus.connection.flush()
    assert [(message.headers, message.data) for message in heard] == [({"a": "1  b: 2", "c": "3"}, b"x")]


async def test_stopping_ends_what_waits_out_an_outage(bus: Bus, server: EmbeddedServer) -> None:
    await server.kill9()
    entry = MessageSent(at_ms=1, to_thread="0", purpose="progress", text="x")
    waiting = asyncio.create_task(bus.journals.append(EntryAddress("log", "0-run", "0", "lead", 0), entry))
    await asyncio.wait({waiting}, timeout=0.2)
    await bus.stop()
    with pytest.raises(BusUnavailable):
        await asyncio.wait_for(waiting, 5)


async def test_more_than_the_buffer_takes_waits_for_the_server_and_can_be_cancelled(
    bus: Bus, server: EmbeddedServer
) -> None:
    server.freeze()

    async def flood() -> None:
        while True:
            await bus.connection.publish("news", b"x" * 500_000)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await flood()
    assert bus.connection._client.pending_data_size < 20 * 2**20
    server.thaw()
    await bus.connection.request("$JS.API.INFO")


async def test_a_key_file_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    bus = Bus(BusSettings(creds=str(tmp_path / "missing.creds")))
    with pytest.raises(ConfigError, match=r"missing\.creds"):
        await bus.start()
    await bus.stop()
