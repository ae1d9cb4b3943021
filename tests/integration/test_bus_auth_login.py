"""Every way to log in to the bus works, and a wrong one is refused in words that say what to mend."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_cli.accounts_jwt import ACCOUNT_LIMITS, NO_LIMITS, Mint, credentials
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.nkeys import Key
from shanty_runtime.errors import ConfigError, PermissionDenied
from shanty_runtime.testing import nats_server, until
from support.callout import CONFIGURATION as ASKING_A_CALLOUT
from support.callout import callout
from support.keys import reload

ACCOUNT = Key.new("account")
SYSTEM = Key.new("account")
OPERATOR = Key.new("operator")


async def lets_in(settings: BusSettings) -> None:
    async with Bus(settings) as bus:
        await bus.connection.flush()


async def refusal(settings: BusSettings) -> str:
    with pytest.raises((ConfigError, PermissionDenied)) as caught:
        await Connection(settings).open()
    return str(caught.value)


def user_with(*keys: Key) -> str:
    return "authorization { users: [" + ", ".join(f"{{ nkey: {key.public} }}" for key in keys) + "] }"


def operator_without(*revoked: Key) -> str:
    """An operator and one account that lets in everybody it has signed for, but these."""
    now_s = int(time.time())
    mint = Mint(1_700_000_000)  # a server that is reloaded wants the operator's JWT to be the one it knows
    unlimited = {"type": "account", "limits": ACCOUNT_LIMITS}
    team = {**unlimited, "revocations": {key.public: now_s for key in revoked}}
    operator = {"type": "operator", "system_account": SYSTEM.public}
    return "\n".join(
        (
            f"operator: {mint.sign(OPERATOR, OPERATOR.public, 'test', operator)}",
            f"system_account: {SYSTEM.public}",
            "resolver: MEMORY",
            "resolver_preload {",
            f"  {ACCOUNT.public}: {mint.sign(OPERATOR, ACCOUNT.public, 'TEAM', team)}",
            f"  {SYSTEM.public}: {mint.sign(OPERATOR, SYSTEM.public, 'SYS', unlimited)}",
            "}",
        )
    )


def put_credentials(path: Path, user: Key, *, lifetime_s: int = 0, age_s: int = 0) -> None:
    mint = Mint(int(time.time()) - age_s)
    token = mint.sign(ACCOUNT, user.public, "logs", {"type": "user", **NO_LIMITS}, lifetime_s=lifetime_s)
    path.write_text(credentials(token, user))


async def test_a_seed_in_a_file_lets_its_user_in_and_no_other(tmp_path: Path) -> None:
    known, unknown, seed = Key.new("user"), Key.new("user"), tmp_path / "seed"
    async with nats_server(extra=user_with(known)) as server:
        settings = BusSettings(url=server.url, nkey_seed_file=str(seed))
        seed.write_text(f"{known.seed}\n")
        await lets_in(settings)
        seed.write_text(f"{unknown.seed}\n")
        said = await refusal(settings)
    assert "authorization violation" in said and str(seed) in said
    assert unknown.seed not in said


async def test_credentials_let_their_user_in_until_they_expire(tmp_path: Path) -> None:
    file = tmp_path / "logs.creds"
    async with nats_server(extra=operator_without()) as server:
        settings = BusSettings(url=server.url, creds=str(file))
        put_credentials(file, Key.new("user"))
        await lets_in(settings)
        put_credentials(file, Key.new("user"), lifetime_s=60, age_s=90)
        said = await refusal(settings)
    assert "was refused" in said and "they have expired" in said and str(file) in said


async def test_credentials_that_somebody_else_signed_are_refused(tmp_path: Path) -> None:
    stranger, user = Key.new("account"), Key.new("user")
    token = Mint(int(time.time())).sign(stranger, user.public, "logs", {"type": "user", **NO_LIMITS})
    file = tmp_path / "logs.creds"
    file.write_text(credentials(token, user))
    async with nats_server(extra=operator_without()) as server:
        assert "authorization violation" in await refusal(BusSettings(url=server.url, creds=str(file)))


async def test_a_token_lets_in_as_a_value_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("open-sesame\n")
    async with nats_server(extra="authorization { token: open-sesame }") as server:
        await lets_in(BusSettings(url=server.url, token="open-sesame"))
        await lets_in(BusSettings(url=server.url, token_file=str(file)))
        said = await refusal(BusSettings(url=server.url, token="close-sesame"))
    assert "the token it was given" in said and "close-sesame" not in said


async def test_a_password_in_the_address_is_not_repeated() -> None:
    async with nats_server(extra="authorization { user: a, password: b }") as server:
        for address in (server.url, server.url.removeprefix("nats://"), f"{server.url},{server.url}"):
            secret = address.replace("127.0.0.1", "a:hunter2-hunter2@127.0.0.1")
            said = await refusal(BusSettings(url=secret))
            assert f"logging in to {address} with" in said


async def test_a_callout_lets_in_whoever_has_a_token_it_knows(tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with nats_server(extra=ASKING_A_CALLOUT) as server, callout(server, {"token-of-logs": "logs"}):
        settings = BusSettings(url=server.url, token_file=str(file), inbox_prefix="_INBOX_logs")
        file.write_text("token-of-logs")
        async with Bus(settings) as bus:
            await bus.connection.request("$JS.API.INFO")
            with pytest.raises(PermissionDenied):
                await bus.connection.request("shanty.0.log.0-r.0.metrics.0")
        file.write_text("bogus")
        said = await refusal(settings)
    assert "authorization violation" in said and str(file) in said


Put = Callable[[Path, Key], object]
WAYS: dict[str, tuple[Callable[[Key, Key], str], str, Put]] = {
    "seed": (lambda _, new: user_with(new), "nkey_seed_file", lambda path, key: path.write_text(key.seed)),
    "creds": (lambda old, _: operator_without(old), "creds", put_credentials),
    "token": (
        lambda _, new: f"authorization {{ token: {new.public} }}",
        "token_file",
        lambda path, key: path.write_text(key.public),
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_renewed_on_the_disk_is_read_at_the_next_connect(tmp_path: Path, way: str) -> None:
    configuration, setting, put = WAYS[way]
    old, new, file, included = Key.new("user"), Key.new("user"), tmp_path / "secret", tmp_path / "nats" / "auth.conf"
    included.parent.mkdir()
    included.write_text(configuration(new, old))
    put(file, old)
    async with EmbeddedServer(store_dir=included.parent, extra="include auth.conf") as server:
        async with Bus(msgspec.structs.replace(BusSettings(url=server.url), **{setting: str(file)})) as bus:
            put(file, new)
            included.write_text(configuration(old, new))
            await server.restart()
            await until(lambda: bus.connection._client.stats["reconnects"] == 1)
            await bus.connection.flush()


async def test_whoever_is_revoked_is_out_within_seconds_says_so_once_and_comes_back_with_new_credentials(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, file, included = Key.new("user"), Key.new("user"), tmp_path / "creds", tmp_path / "nats" / "auth.conf"
    included.parent.mkdir()
    included.write_text(operator_without())
    put_credentials(file, old)
    async with EmbeddedServer(store_dir=included.parent, extra="include auth.conf") as server:
        async with Bus(BusSettings(url=server.url, creds=str(file))) as bus:
            included.write_text(operator_without(old))
            began_s = time.monotonic()
            await reload(server)
            await until(lambda: not bus.connected)
            assert time.monotonic() - began_s < 5
            await until(lambda: server.log_text().count("authentication error") >= 3)  # it has tried a few times
            assert not bus.connected
            errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
            assert len(errors) == 1, [record.getMessage() for record in errors]
            assert str(file) in errors[0].getMessage() and "trying again" in errors[0].getMessage()
            put_credentials(file, new)
            await until(lambda: bus.connected)


async def test_somebody_who_is_not_let_in_does_not_knock_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(BusSettings())
    connection._refused = True
    pauses_s = [connection._pick_server([_tried(tries)], {})[1] for tries in range(8, 200)]
    assert max(pauses_s) > 5 and sum(pauses_s) / len(pauses_s) > 3


def _tried(times: int) -> Any:
    from nats.aio.client import Server

    return Server(uri=None, reconnects=times)  # type: ignore[arg-type]  # only the number is looked at


def test_a_seed_has_the_public_key_that_other_libraries_give_it() -> None:
    seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"  # an example of nats-io's own documentation
    key = Key.from_seed(seed, "a test")
    assert (key.kind, key.seed) == ("user", seed)
    assert key.public == "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


USER = Key.new("user")
CREDENTIALS = credentials(Mint(1).sign(ACCOUNT, USER.public, "logs", {"type": "user"}), USER)


@pytest.mark.parametrize(
    ("setting", "content", "said"),
    [
        ("creds", None, "is not there; it should hold credentials"),
        ("creds", "hello", "is not a credentials file: there is no user JWT in it"),
        ("creds", CREDENTIALS.split("-----BEGIN USER NKEY")[0], "there is no nkey seed in it"),
        ("creds", CREDENTIALS.replace(USER.seed, Key.new("user").seed), "does not fit together"),
        ("creds", CREDENTIALS.replace(USER.seed, USER.seed[:-2]), "does not hold an nkey seed"),
        ("nkey_seed_file", None, "is not there; it should hold a seed"),
        ("nkey_seed_file", "", "does not hold an nkey seed"),
        ("nkey_seed_file", USER.public, "does not hold an nkey seed"),
        ("nkey_seed_file", USER.seed[:20] + "AAAA" + USER.seed[24:], "does not hold an nkey seed"),
        ("nkey_seed_file", ACCOUNT.seed, "holds the seed of an account"),
        ("nkey_seed_file", "x" * 100_000, "is too large"),
        ("token_file", None, "is not there; it should hold a token"),
        ("token_file", " \n", "is empty"),
    ],
    ids=[
        "no creds",
        "no JWT",
        "no seed",
        "another's seed",
        "cut seed in creds",
        "no seed file",
        "empty seed file",
        "public key",
        "seed with a wrong letter",
        "seed of an account",
        "too large",
        "no token file",
        "empty token file",
    ],
)
async def test_a_file_that_is_wrong_is_named_with_what_is_wrong_and_never_shown(
    tmp_path: Path, setting: str, content: str | None, said: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=said) as caught:
        await Connection(msgspec.structs.replace(BusSettings(), **{setting: str(file)})).open()
    assert str(file) in str(caught.value)
    assert USER.seed[2:20] not in str(caught.value) and ACCOUNT.seed not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"creds": "a", "nkey_seed_file": "b"},
        {"creds": "a", "user": "b"},
        {"user": "a", "token": "b"},
        {"token": "a", "token_file": "b"},
    ],
)
async def test_two_ways_to_log_in_at_once_are_a_configuration_error(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="set one of them"):
        await Connection(msgspec.structs.replace(BusSettings(), **given)).open()
