"""TLS to the bus: who is trusted, what is refused, and in which words."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from msgspec.structs import replace

from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer
from shanty_runtime.bus.connection import Connection
from shanty_runtime.errors import ConfigError, PermissionDenied
from shanty_runtime.testing import nats_server, until
from support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def tls(authority: Authority, *more: str, host: str = "127.0.0.1") -> str:
    """The part of a server's configuration that makes it speak TLS, with a certificate for a host."""
    certificate, key = authority.issue(f"server-{host}", host)
    return "\n".join(("tls {", f'cert_file: "{certificate}"', f'key_file: "{key}"', *more, "}"))


def verifying(authority: Authority) -> tuple[str, str]:
    return f'ca_file: "{authority.file}"', "verify: true"


async def answers(settings: BusSettings) -> bool:
    async with Bus(settings) as bus:
        return b"io.nats" in (await bus.connection.request("$JS.API.INFO")).data


def tls_versions(server: EmbeddedServer) -> list[str]:
    """What the server says of its connections; empty for one in the clear."""
    with urllib.request.urlopen(f"{server.monitor_url}/connz", timeout=5) as answer:
        return [connection.get("tls_version", "") for connection in json.loads(answer.read())["connections"]]


async def refusal(settings: BusSettings) -> str:
    with pytest.raises((ConfigError, PermissionDenied)) as caught:
        await Connection(settings).open()
    return str(caught.value)


async def test_a_server_whose_certificate_is_trusted_is_spoken_to_over_tls(authority: Authority) -> None:
    async with nats_server(extra=tls(authority)) as server:
        assert await answers(BusSettings(url=server.url, tls_ca=str(authority.file)))
        assert await answers(BusSettings(url=server.url.replace("nats://", "tls://"), tls_ca=str(authority.file)))


async def test_a_certificate_of_another_authority_is_refused_at_once(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other")
    async with nats_server(extra=tls(authority)) as server:
        said = await refusal(BusSettings(url=server.url, tls_ca=str(other.file)))
        assert f"the certificate of {server.url} is refused" in said and str(other.file) in said
        said = await refusal(BusSettings(url=server.url))
        assert "is refused" in said and "SHANTY_NATS_TLS_CA" in said


async def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    async with nats_server(extra=tls(authority, host="nats.example.org")) as server:
        said = await refusal(BusSettings(url=server.url, tls_ca=str(authority.file)))
        assert "is refused" in said and "127.0.0.1" in said


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(
    server: EmbeddedServer, authority: Authority, scheme: str
) -> None:
    url = server.url.replace("nats://", f"{scheme}://")
    ca = str(authority.file) if scheme == "nats" else ""
    said = await refusal(BusSettings(url=url, tls_ca=ca))
    assert "does not speak TLS" in said


async def test_tls_that_is_only_offered_is_taken(authority: Authority) -> None:
    async with nats_server(extra=tls(authority) + "\nallow_non_tls: true") as server:
        async with Bus(BusSettings(url=server.url, tls_ca=str(authority.file))):
            assert tls_versions(server) == ["1.3"]


async def test_a_server_that_shakes_hands_first_is_spoken_to(authority: Authority) -> None:
    async with nats_server(extra=tls(authority, "handshake_first: true")) as server:
        assert await answers(BusSettings(url=server.url, tls_ca=str(authority.file), tls_first=True))


async def test_a_server_that_asks_for_a_certificate_gets_ours_and_nobody_elses(
    authority: Authority, tmp_path: Path
) -> None:
    ours, key = authority.issue("client")
    stranger, strangers_key = Authority(tmp_path / "other", "other").issue("stranger")
    async with nats_server(extra=tls(authority, *verifying(authority))) as server:
        trusting = BusSettings(url=server.url, tls_ca=str(authority.file))
        assert await answers(replace(trusting, tls_cert=str(ours), tls_key=str(key)))
        said = await refusal(trusting)
        assert "certificate required" in said and "SHANTY_NATS_TLS_CERT" in said
        said = await refusal(replace(trusting, tls_cert=str(stranger), tls_key=str(strangers_key)))
        assert str(stranger) in said


async def test_a_certificate_that_was_renewed_on_the_disk_is_shown_at_the_next_connect(
    authority: Authority, tmp_path: Path
) -> None:
    first = authority.issue("client")
    successor = Authority(tmp_path / "successor", "successor")
    bundle = tmp_path / "trusted.pem"
    bundle.write_bytes(authority.file.read_bytes())
    config = tls(authority, f'ca_file: "{bundle}"', "verify: true")
    async with nats_server(extra=config) as server:
        settings = BusSettings(
            url=server.url, tls_ca=str(authority.file), tls_cert=str(first[0]), tls_key=str(first[1])
        )
        async with Bus(settings) as bus:
            for new, old in zip(successor.issue("client"), first, strict=True):
                shutil.copy(new, old)
            bundle.write_bytes(successor.file.read_bytes())
            await server.restart()
            await until(lambda: not bus.connected or bus.connection._client.stats["reconnects"] > 0)
            await until(lambda: bus.connected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tls_ca": "missing.pem"}, "missing.pem is not there; it should hold CA certificates"),
        ({"tls_ca": "words.txt"}, "words.txt does not hold CA certificates"),
        ({"tls_ca": "authority.pem", "tls_cert": "client.pem"}, "client.pem is of no use without its private key"),
        ({"tls_ca": "authority.pem", "tls_key": "client-key.pem"}, "client-key.pem is of no use without its cert"),
        ({"tls_cert": "missing.pem", "tls_key": "client-key.pem"}, "missing.pem is not there"),
        (
            {"tls_cert": "client.pem", "tls_key": "words.txt"},
            "words.txt do not hold a certificate and its private key",
        ),
        ({"tls_cert": "client.pem", "tls_key": "server-key.pem"}, "server-key.pem is not the private key of"),
        ({"tls_cert": "locked.pem", "tls_key": "locked-key.pem"}, "without a passphrase"),
    ],
)
async def test_a_tls_file_that_is_wrong_is_named_with_what_is_wrong(
    authority: Authority, given: dict[str, str], said: str
) -> None:
    authority.issue("client")
    authority.issue("server")
    authority.issue("locked", passphrase=b"open sesame")
    (authority.folder / "words.txt").write_text("hello")
    files = {name: str(authority.folder / file) for name, file in given.items()}
    with pytest.raises(ConfigError, match=said):
        await Connection(replace(BusSettings(), **files)).open()
