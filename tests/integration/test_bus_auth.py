"""What `shanty bus-auth` writes, on a real server: in both formats everybody can do what is theirs, and only that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shanty_cli.accounts_jwt import Mint, read_claims
from shanty_cli.dev_bus import Found
from shanty_cli.doctor import examine
from shanty_protocol import EntryAddress, MessageSent
from shanty_runtime.bus import Bus, EmbeddedServer, create_layout
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.bus.nkeys import Key
from shanty_runtime.errors import BusRefused, BusUnavailable, PermissionDenied
from shanty_runtime.team import AgentDefinition, Team
from shanty_runtime.testing import until
from support.keys import Keyring, guarded_server, lets_in, reload

RUN = "0-r"
TEAM = Team(
    name="crew",
    folder=Path("crew"),
    lead=AgentDefinition(name="lead", description="", role="lead"),
    specialists=tuple(AgentDefinition(name=name, description="", role="specialist") for name in ("alpha", "beta")),
)


@pytest.fixture(params=["conf", "jwt"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> Keyring:
    keyring = Keyring(TEAM, request.param, tmp_path / "auth")
    keyring.write()
    return keyring


@pytest.fixture
async def guarded(keyring: Keyring) -> AsyncIterator[EmbeddedServer]:
    """A server with the team's layout, made by the installer."""
    async with guarded_server(keyring) as server:
        async with Bus(keyring.settings(server, "installer")) as bus:
            await create_layout(bus, agents=("lead", "alpha", "beta"), max_bytes=2**28)
        yield server


def entry(to: str, thread: str, agent: str, n: int = 0) -> str:
    return EntryAddress(to, RUN, thread, agent, n).subject


async def stored(bus: Bus) -> dict[str, int]:
    found = await manage(bus.connection, "STREAM.INFO.SHANTY_0", {"subjects_filter": ">"})
    return dict(found["state"].get("subjects") or {})


async def outcome(bus: Bus, subject: str, data: bytes = b"{}") -> str:
    """What became of a request: answered, denied, or not answered."""
    try:
        answer = await bus.connection.request(subject, data, timeout_s=1.0)
    except PermissionDenied:
        return "denied"
    except BusUnavailable:
        return "unanswered"
    return "refused" if answer.status or b'"error"' in answer.data else "answered"


async def test_everybody_can_do_what_is_theirs_and_nothing_that_is_anothers(
    keyring: Keyring, guarded: EmbeddedServer
) -> None:
    get, info = "$JS.API.DIRECT.GET.SHANTY_0.", "$JS.API.CONSUMER.INFO.SHANTY_0."
    async with (
        Bus(keyring.settings(guarded, "lead")) as lead,
        Bus(keyring.settings(guarded, "alpha")) as alpha,
        Bus(keyring.settings(guarded, "operators")) as operators,
        Bus(keyring.settings(guarded, "console")) as console,
    ):
        expected = [
            (lead, entry("log", "0", "lead"), "answered"),
            (lead, entry("alpha", "0", "lead", 1), "answered"),
            (lead, entry("beta", "0", "lead", 2), "answered"),
            (lead, entry("lead", "0-1", "alpha"), "denied"),
            (alpha, entry("lead", "0-1", "alpha"), "answered"),
            (alpha, entry("log", "0-1", "alpha", 1), "answered"),
            (alpha, entry("log", "0-1", "beta"), "denied"),
            (alpha, entry("beta", "0-1", "alpha", 2), "denied"),
            (alpha, info + "mail-alpha", "answered"),
            (alpha, info + "mail-beta", "denied"),
            (alpha, get + entry("lead", "0-1", "alpha"), "answered"),
            (alpha, get + entry("alpha", "0", "lead", 1), "answered"),
            (alpha, get + entry("beta", "0", "lead", 2), "denied"),
            (alpha, get + entry("log", "0", "lead"), "denied"),
            (alpha, "$JS.API.STREAM.INFO.SHANTY_0", "denied"),
            (alpha, "$JS.API.STREAM.MSG.GET.SHANTY_0", "denied"),
            (operators, entry("lead", "request-1", "cli"), "answered"),
            (operators, entry("lead", "request-2", "alpha"), "denied"),
            (operators, get + entry("log", "0", "lead"), "answered"),
            (operators, info + "mail-alpha", "answered"),
            (console, get + entry("beta", "0", "lead", 2), "answered"),
            (console, entry("lead", "request-3", "console"), "denied"),
        ]
        found = [(bus, subject, await outcome(bus, subject)) for bus, subject, _ in expected]
    assert found == expected


async def test_mail_is_pulled_and_acked_by_the_one_it_is_for(keyring: Keyring, guarded: EmbeddedServer) -> None:
    async with (
        Bus(keyring.settings(guarded, "lead")) as lead,
        Bus(keyring.settings(guarded, "alpha")) as alpha,
        Bus(keyring.settings(guarded, "beta")) as beta,
    ):
        pull = await alpha.pull("0", "alpha", "mail", 4)
        with pytest.raises((BusRefused, BusUnavailable)):
            await beta.pull("0", "alpha", "mail", 4)
        mail = EntryAddress("alpha", RUN, "0", "lead", 0)
        await lead.journals.append(
            mail, MessageSent(at_ms=1, by="test", to_thread="0-1", text="haul", purpose="follow_up")
        )
        async with asyncio.timeout(10):
            delivery = await pull.next()
        assert delivery.subject == mail.subject
        await delivery.ack()
        await pull.close()
        await acked(lead)


async def acked(bus: Bus, deadline_s: float = 10) -> None:
    """Return once nothing that alpha pulled waits for its ack, which nothing answers: it can only be seen."""
    end_s = asyncio.get_running_loop().time() + deadline_s
    while (await manage(bus.connection, "CONSUMER.INFO.SHANTY_0.mail-alpha"))["num_ack_pending"]:
        assert asyncio.get_running_loop().time() < end_s, "the mail is still not acked"
        await asyncio.sleep(0.01)


async def test_an_answer_of_the_server_forges_nothing_from_another_account(
    keyring: Keyring, guarded: EmbeddedServer
) -> None:
    """The server writes wherever a request wants its answer, in its own name; between accounts that leads nowhere."""
    async with (
        Bus(keyring.settings(guarded, "installer")) as installer,
        Bus(keyring.settings(guarded, "lead")) as lead,
        Bus(keyring.settings(guarded, "alpha")) as alpha,
        Bus(keyring.settings(guarded, "beta")) as beta,
    ):
        heard: list[str] = []
        own = entry("log", "0-1", "alpha")
        await lead.connection.request(entry("alpha", "0", "lead"), b"{}")
        await alpha.connection.request(own, b"forged")
        await beta.connection.listen("shanty.feed.0.beta.>", lambda message: heard.append(message.subject))
        before = await stored(installer)
        victims = [entry("beta", "0", "lead", n) for n in range(1, 5)]
        pull = msgspec.json.encode({"batch": 1, "expires": 300_000_000})
        await alpha.connection.publish(entry("log", "0-1", "alpha", 1), b"forged", reply=victims[0])
        await alpha.connection.publish(f"$JS.API.DIRECT.GET.SHANTY_0.{own}", reply=victims[1])
        await alpha.connection.publish("$JS.API.CONSUMER.MSG.NEXT.SHANTY_0.mail-alpha", pull, reply=victims[2])
        await alpha.connection.publish("$JS.API.CONSUMER.INFO.SHANTY_0.mail-alpha", reply=victims[3])
        # Each kind of request once more, with an answer: by then the server has handled those before it.
        for subject in (entry("log", "0-1", "alpha", 2), f"$JS.API.DIRECT.GET.SHANTY_0.{own}"):
            assert await outcome(alpha, subject) == "answered"
        assert await outcome(alpha, "$JS.API.CONSUMER.INFO.SHANTY_0.mail-alpha") == "answered"
        await lead.connection.request(entry("beta", "0-9", "lead"), b"a true one")
        await until(lambda: heard)
        after = await stored(installer)
    assert set(after) - set(before) == {
        entry("log", "0-1", "alpha", 1),
        entry("log", "0-1", "alpha", 2),
        entry("beta", "0-9", "lead"),
    }
    assert heard == [f"shanty.feed.{entry('beta', '0-9', 'lead').removeprefix('shanty.')}"]


async def test_a_new_key_is_taken_up_while_a_service_runs_and_the_old_one_is_of_no_use(
    keyring: Keyring, guarded: EmbeddedServer, tmp_path: Path
) -> None:
    mounted, old = tmp_path / "mounted", tmp_path / "old"
    shutil.copy(keyring.file("alpha"), mounted)
    shutil.copy(keyring.file("alpha"), old)
    async with (
        Bus(keyring.settings(guarded, "alpha", mounted)) as alpha,
        Bus(keyring.settings(guarded, "beta")) as beta,
    ):
        keyring.write(rotate=("alpha",))
        shutil.copy(keyring.file("alpha"), mounted)
        await reload(guarded)
        await until(lambda: alpha.connection._client.stats["reconnects"] == 1)
        assert await outcome(alpha, entry("log", "0-1", "alpha")) == "answered"
        with pytest.raises(PermissionDenied, match="authorization violation"):
            await lets_in(keyring.settings(guarded, "alpha", old))
        assert beta.connection._client.stats["reconnects"] == 0


async def test_whoever_is_revoked_is_cut_off_and_writes_nothing_more(
    keyring: Keyring, guarded: EmbeddedServer, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    shutil.copy(keyring.file("alpha"), kept)
    async with (
        Bus(keyring.settings(guarded, "installer")) as installer,
        Bus(keyring.settings(guarded, "alpha", kept)) as alpha,
        Bus(keyring.settings(guarded, "beta")) as beta,
    ):
        keyring.write(revoke=("alpha",))
        await reload(guarded)
        await until(lambda: not alpha.connected, deadline_s=5)
        before = await stored(installer)
        # Kept by the client for when it is back, which it must never be.
        await alpha.connection.publish(entry("log", "0-1", "alpha"), b"too late")
        with pytest.raises(PermissionDenied):
            await lets_in(keyring.settings(guarded, "alpha", kept))
        assert await outcome(beta, entry("log", "0-2", "beta")) == "answered"
        assert set(await stored(installer)) - set(before) == {entry("log", "0-2", "beta")}
    keyring.write(rotate=("alpha",))
    await reload(guarded)
    assert await lets_in(keyring.settings(guarded, "alpha"))


async def test_what_a_team_may_do_changes_with_a_reload_and_without_new_credentials(
    keyring: Keyring, guarded: EmbeddedServer
) -> None:
    secret = keyring.file("alpha").read_bytes()
    async with Bus(keyring.settings(guarded, "alpha")) as alpha:
        assert await outcome(alpha, "$JS.API.CONSUMER.INFO.SHANTY_7.mail-alpha") == "denied"
    assert keyring.write(lanes=("0", "7")).written
    await reload(guarded)
    async with Bus(keyring.settings(guarded, "alpha")) as alpha:
        assert await outcome(alpha, "$JS.API.CONSUMER.INFO.SHANTY_7.mail-alpha") == "refused"  # there is none yet
    assert keyring.file("alpha").read_bytes() == secret


@pytest.mark.parametrize("forgery", ["a token of another account", "no token"])
async def test_an_account_imports_only_what_the_control_account_has_signed_for(tmp_path: Path, forgery: str) -> None:
    keyring = Keyring(TEAM, "jwt", tmp_path / "auth")
    keyring.write()
    operator = Key.from_seed((keyring.folder / "keys/operator.nk").read_text(), "the operator's key")
    alpha, beta = (token_of(keyring, f"CREW_{name}") for name in ("ALPHA", "BETA"))
    claims, theirs = read_claims(beta)["nats"], read_claims(alpha)["nats"]
    claims["imports"] = theirs["imports"]
    if forgery == "no token":
        claims["imports"] = [{name: each[name] for name in each if name != "token"} for each in theirs["imports"]]
    claims["signing_keys"][0]["template"]["pub"] = theirs["signing_keys"][0]["template"]["pub"]
    # Not even the operator's signature helps: what is exported is the control account's to give.
    forged = Mint(keyring.now_s).sign(operator, read_claims(beta)["sub"], "CREW_BETA", claims)
    keyring.conf.write_text(keyring.conf.read_text().replace(beta, forged))
    async with guarded_server(keyring) as server:
        async with Bus(keyring.settings(server, "installer")) as installer:
            await create_layout(installer, agents=("lead", "alpha", "beta"), max_bytes=2**28)
            with contextlib.suppress(PermissionDenied):  # the server takes no account with somebody else's token
                async with Bus(keyring.settings(server, "beta")) as bus:
                    assert forgery == "no token"
                    assert await outcome(bus, entry("log", "0-2", "alpha")) == "unanswered"
            assert await stored(installer) == {}
            async with Bus(keyring.settings(server, "alpha")) as bus:
                assert await outcome(bus, entry("log", "0-1", "alpha")) == "answered"


def token_of(keyring: Keyring, account: str) -> str:
    tokens = [path.read_text() for path in (keyring.folder / "accounts").iterdir()]
    return next(token for token in tokens if read_claims(token)["name"] == account)


async def test_accounts_may_be_pushed_to_a_server_that_keeps_them_itself(tmp_path: Path) -> None:
    keyring = Keyring(TEAM, "jwt", tmp_path / "auth")
    keyring.write()
    head = [
        line for line in keyring.conf.read_text().splitlines() if line.startswith(("operator:", "system_account:"))
    ]
    shutil.copytree(keyring.folder / "accounts", tmp_path / "resolver")
    full = f'resolver {{ type: full, dir: "{tmp_path / "resolver"}" }}'
    async with EmbeddedServer(store_dir=tmp_path / "nats", extra="\n".join((*head, full))) as server:
        assert await lets_in(keyring.settings(server, "alpha"))
        kept = shutil.copy(keyring.file("alpha"), tmp_path / "kept")
        written = keyring.write(revoke=("alpha",)).written
        changed = [keyring.folder / name for name in written if name.startswith("accounts/")]
        async with Bus(keyring.settings(server, "admin")) as admin:
            for file in changed:
                answer = await admin.connection.request("$SYS.REQ.CLAIMS.UPDATE", file.read_bytes())
                assert b'"code":200' in answer.data, answer.data
        with pytest.raises(PermissionDenied):
            await lets_in(keyring.settings(server, "alpha", Path(kept)))
        assert await lets_in(keyring.settings(server, "beta"))
        await server.kill9()


async def test_the_doctor_tells_a_login_that_is_refused_from_a_server_that_is_not_there(
    keyring: Keyring, guarded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Found(nats_url=guarded.url, monitor_url="", ours=False)
    refused = [check async for check in examine(found, None, ("0",))][-1]
    assert (refused.name, refused.state) == ("nats", "bad") and "shanty bus-auth" in refused.mend
    monkeypatch.setenv("SHANTY_NATS_CREDS" if keyring.form == "jwt" else "SHANTY_NATS_NKEY_SEED", "missing")
    missing = [check async for check in examine(found, None, ("0",))][-1]
    assert missing.state == "bad" and "missing is not there" in missing.found


def test_secrets_are_for_their_owner_only(keyring: Keyring) -> None:
    secret = {"keys", "creds"}
    for path in keyring.folder.rglob("*"):
        inside = secret & set(path.relative_to(keyring.folder).parts)
        assert not inside or not os.stat(path).st_mode & 0o077, path
