"""`shanty bus-auth` as files: what is written, kept, taken away and refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_cli.__main__ import main
from shanty_cli.accounts_jwt import Mint, read_claims, subject_covers, widest
from shanty_cli.bus_auth import Order, Report, write_keys
from shanty_cli.dev_bus import Found
from shanty_cli.dev_bus import bus_settings as command_settings
from shanty_cli.exits import DONE, USAGE, UsageError
from shanty_cli.key_folder import Form
from shanty_protocol.zones import Grant
from shanty_runtime.bus import login_of
from shanty_runtime.bus.nkeys import Key
from shanty_runtime.config import read_settings
from shanty_runtime.errors import ConfigError
from shanty_runtime.team import AgentDefinition, Team

HELLO = str(Path(__file__).parents[2] / "teams" / "hello")
NOW_S = 1_800_000_000
DAY_S = 86_400


def team_of(*specialists: str, name: str = "crew") -> Team:
    return Team(
        name=name,
        folder=Path(name),
        lead=AgentDefinition(name="lead", description="", role="lead"),
        specialists=tuple(AgentDefinition(name=each, description="", role="specialist") for each in specialists),
    )


CREW = team_of("alpha", "beta")


def write(folder: Path, form: Form | None = None, now_s: int = NOW_S, **changes: Any) -> Report:
    return write_keys(msgspec.structs.replace(Order(team=CREW, folder=folder, form=form), **changes), now_s)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def states(report: Report) -> dict[str, str]:
    return {each.principal: each.state for each in report.principals}


def claims_of(credentials: Path) -> dict[str, Any]:
    return read_claims(credentials.read_text().splitlines()[1])


@pytest.fixture(params=["conf", "jwt"])
def form(request: pytest.FixtureRequest) -> Form:
    chosen: Form = request.param
    return chosen


def test_everybody_gets_a_key_and_a_second_time_nothing_changes(tmp_path: Path, form: Form) -> None:
    first = write(tmp_path, form)
    before = contents(tmp_path)
    again = write(tmp_path, now_s=NOW_S + DAY_S)
    people = ["lead", "installer", "alpha", "beta", "operators", "gateway", "console", "admin"]
    assert states(first) == dict.fromkeys(people, "new")
    assert states(again) == dict.fromkeys(people, "kept")
    assert (again.written, again.removed, again.next) == ((), (), ())
    assert contents(tmp_path) == before
    assert [each.key for each in again.principals] == [each.key for each in first.principals]


def test_what_the_server_gets_holds_no_seed(tmp_path: Path, form: Form) -> None:
    write(tmp_path, form)
    seeds = [
        line
        for name, content in contents(tmp_path).items()
        if name.startswith(("keys/", "creds/"))
        for line in content.decode().splitlines()
        if line.startswith("S") and len(line) == 58
    ]
    public = [
        content.decode() for name, content in contents(tmp_path).items() if not name.startswith(("keys", "cred"))
    ]
    assert len(seeds) >= 8
    assert not [seed for seed in seeds if any(seed in text for text in public)]


def test_a_rotated_user_gets_a_new_key_and_everybody_else_keeps_theirs(tmp_path: Path, form: Form) -> None:
    first = {each.principal: each.key for each in write(tmp_path, form).principals}
    report = write(tmp_path, rotate=("alpha",))
    changed = {each.principal for each in report.principals if each.key != first[each.principal]}
    assert changed == {"alpha"} and states(report)["alpha"] == "rotated"
    assert any("alpha" in step for step in report.next) and any("reload" in step for step in report.next)
    conf = contents(tmp_path)["accounts.conf" if form == "conf" else "bus-auth.json"].decode()
    assert (first["alpha"] in conf) is (form == "jwt"), (
        "the old key is forgotten, or listed as one that was taken back"
    )


def test_a_revoked_user_stays_out_until_it_is_given_a_new_key(tmp_path: Path, form: Form) -> None:
    first = {each.principal: each for each in write(tmp_path, form).principals}
    report = write(tmp_path, revoke=("alpha",))
    assert states(report)["alpha"] == "revoked"
    assert report.removed == (first["alpha"].file,) and not (tmp_path / first["alpha"].file).exists()
    again = write(tmp_path)
    assert (states(again)["alpha"], again.written) == ("revoked", ())
    back = {each.principal: each for each in write(tmp_path, rotate=("alpha",)).principals}
    assert back["alpha"].state == "new" and back["alpha"].key not in ("", first["alpha"].key)


def test_a_key_that_was_taken_back_is_in_its_accounts_revocations_for_ever(tmp_path: Path) -> None:
    old = {each.principal: each.key for each in write(tmp_path, "jwt").principals}["alpha"]
    write(tmp_path, rotate=("alpha",), now_s=NOW_S + 5)
    write(tmp_path, now_s=NOW_S + 9)
    tokens = [read_claims(path.read_text()) for path in (tmp_path / "accounts").iterdir()]
    assert [each["nats"].get("revocations") for each in tokens if each["name"] == "CREW_ALPHA"] == [{old: NOW_S + 5}]


def test_an_agent_that_left_the_team_loses_its_files(tmp_path: Path, form: Form) -> None:
    write(tmp_path, form)
    report = write(tmp_path, team=team_of("alpha"))
    assert states(report)["beta"] == "removed"
    assert not [name for name in contents(tmp_path) if "beta" in name]
    assert states(write(tmp_path))["beta"] == "new"


def test_a_seed_need_not_stay_in_the_folder(tmp_path: Path, form: Form) -> None:
    first = {each.principal: each for each in write(tmp_path, form).principals}
    (tmp_path / first["alpha"].file).unlink()
    again = {each.principal: each for each in write(tmp_path).principals}
    assert (again["alpha"].state, again["alpha"].key, again["alpha"].file) == ("kept", first["alpha"].key, "")
    assert not (tmp_path / first["alpha"].file).exists()


def test_another_key_in_the_place_of_one_that_is_known_is_an_error(tmp_path: Path, form: Form) -> None:
    first = {each.principal: each for each in write(tmp_path, form).principals}
    (tmp_path / first["alpha"].file).write_bytes((tmp_path / first["beta"].file).read_bytes())
    with pytest.raises(ConfigError, match=r"does not hold the key alpha is known by.*--rotate alpha"):
        write(tmp_path)


def test_nothing_can_be_signed_without_the_operators_key(tmp_path: Path) -> None:
    write(tmp_path, "jwt")
    (tmp_path / "keys/operator.nk").unlink()
    with pytest.raises(ConfigError, match=r"operator\.nk is not there any more"):
        write(tmp_path, rotate=("alpha",))


def test_files_of_others_are_never_overwritten(tmp_path: Path, form: Form) -> None:
    name = "accounts.conf" if form == "conf" else "resolver.conf"
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"{name}: not written by"):
        write(tmp_path, form)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_folder_is_for_one_team_and_one_format(tmp_path: Path, form: Form) -> None:
    write(tmp_path, form)
    with pytest.raises(UsageError, match="has the keys of team crew"):
        write(tmp_path, team=team_of("alpha", name="another"))
    with pytest.raises(UsageError, match=f"keys in the format {form}"):
        write(tmp_path, "jwt" if form == "conf" else "conf")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rotate": ("gamma",)}, "nobody called gamma; there are lead, installer, alpha"),
        ({"rotate": ("beta",), "revoke": ("beta",)}, "beta cannot be given a new key and be revoked"),
        ({"expires_in": "soon"}, "such as 90d, or never"),
        ({"expires_in": "90d", "form": "conf"}, "--expires-in is for --format jwt"),
        ({"lanes": ("one",)}, "--lanes"),
        ({"team": team_of("gateway")}, "gateway"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        write(tmp_path / "auth", **{"form": "jwt", **changes})
    assert not (tmp_path / "auth").exists()


def test_credentials_are_renewed_in_the_second_half_of_their_life(tmp_path: Path) -> None:
    file = tmp_path / "creds/alpha.creds"
    write(tmp_path, "jwt", expires_in="90d")
    assert claims_of(file)["exp"] == NOW_S + 90 * DAY_S
    key = claims_of(file)["sub"]
    assert write(tmp_path, now_s=NOW_S + 40 * DAY_S).written == ()
    renewed = write(tmp_path, now_s=NOW_S + 50 * DAY_S)
    assert states(renewed)["alpha"] == "renewed"
    assert (claims_of(file)["exp"], claims_of(file)["sub"]) == (NOW_S + 140 * DAY_S, key)
    assert set(renewed.written) == {f"creds/{each.principal}.creds" for each in renewed.principals}
    write(tmp_path, now_s=NOW_S + 50 * DAY_S, expires_in="never")
    assert "exp" not in claims_of(file)


def test_a_jwt_whose_file_was_lost_is_found_in_the_servers_configuration(tmp_path: Path) -> None:
    write(tmp_path, "jwt")
    before = contents(tmp_path)
    (tmp_path / "operator.jwt").unlink()
    assert write(tmp_path, now_s=NOW_S + DAY_S).written == ("operator.jwt",)
    assert contents(tmp_path) == before


def test_a_jwt_that_was_tampered_with_is_signed_anew(tmp_path: Path) -> None:
    write(tmp_path, "jwt")
    account = next(path for path in (tmp_path / "accounts").iterdir() if b'"name":"CREW"' in _body(path))
    right = account.read_text()
    head, body, signature = right.split(".")
    account.write_text(f"{head}.{body}.{signature[::-1]}")
    write(tmp_path)
    assert account.read_text() == right


def _body(path: Path) -> bytes:
    body = path.read_text().split(".")[1]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def test_a_jwt_says_again_what_it_said_byte_for_byte() -> None:
    issuer, user = Key.new("account"), Key.new("user")
    first = Mint(NOW_S).sign(issuer, user.public, "alpha", {"type": "user"})
    assert Mint(NOW_S + 9, [first]).sign(issuer, user.public, "alpha", {"type": "user"}) == first
    assert Mint(NOW_S + 9, [first]).sign(issuer, user.public, "alpha", {"type": "user", "subs": 1}) != first
    assert read_claims(first)["iat"] == NOW_S


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a.*.>", True),
        (">", "a", True),
        ("a.*.c", "a.*.c", True),
        ("a.b", "a.*", False),
        ("a.>", "a", False),
        ("a.*", "a.>", False),
        ("a.*", "a.b.c", False),
        ("a.*.c", "a.b", False),
    ],
)
def test_a_pattern_covers_what_it_matches(wide: str, narrow: str, covers: bool) -> None:
    assert subject_covers(wide, narrow) is covers


def test_the_widest_of_several_grants_stands_for_the_others_and_answers_as_much() -> None:
    def grant(subject: str, answers: Any = "one", verb: Any = "request") -> Grant:
        return Grant(verb=verb, subject=subject, answers=answers, why="")

    found = widest(
        [
            grant("a.>"),
            grant("a.b", "many"),
            grant("a.b"),
            grant("c", "none", "publish"),
            grant("a.>", "none", "subscribe"),
        ]
    )
    assert sorted((each.subject, each.verb, each.answers) for each in found) == [
        ("a.>", "request", "many"),
        ("a.>", "subscribe", "none"),
        ("c", "publish", "none"),
    ]


def test_the_command_shows_who_logs_in_with_what_and_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: Form
) -> None:
    code = main(["bus-auth", HELLO, "--format", form, "--out", str(tmp_path / "auth")])
    captured = capsys.readouterr()
    assert code == DONE
    assert "HELLO_GREETER" in captured.out and "_INBOX_greeter" in captured.out
    assert "next: " in captured.err and "include" in captured.err
    _no_seed_in(captured.out + captured.err, tmp_path)
    assert main(["bus-auth", HELLO, "--out", str(tmp_path / "auth"), "--rotate", "greeter", "-o", "json"]) == DONE
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert (said["form"], said["team"]) == (form, "hello")
    assert [each["principal"] for each in said["principals"] if each["state"] == "rotated"] == ["greeter"]
    _no_seed_in(captured.out + captured.err, tmp_path)


def test_a_name_nobody_has_ends_the_command_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bus-auth", HELLO, "--out", str(tmp_path / "auth"), "--rotate", "nobody"]) == USAGE
    assert "nobody called nobody" in capsys.readouterr().err


def test_every_way_to_log_in_is_set_by_the_environment_for_services_and_for_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways = {
        "USER": "user",
        "PASSWORD": "password",
        "TOKEN": "token",
        "TOKEN_FILE": "token_file",
        "CREDS": "creds",
        "NKEY_SEED": "nkey_seed_file",
        "TLS_CA": "tls_ca",
        "TLS_CERT": "tls_cert",
        "TLS_KEY": "tls_key",
        "INBOX_PREFIX": "inbox_prefix",
    }
    for name in ways:
        monkeypatch.setenv(f"SHANTY_NATS_{name}", f"the {name}")
    monkeypatch.setenv("SHANTY_NATS_TLS_FIRST", "true")
    found = Found(nats_url="nats://a:4222", monitor_url="", ours=False)
    for settings in (login_of("logs", read_settings(), name="logs-1"), command_settings(found)):
        assert {name: getattr(settings, field) for name, field in ways.items()} == {
            name: f"the {name}" for name in ways
        }
        assert settings.tls_first is True


def _no_seed_in(text: str, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.parent.name in ("keys", "creds"):
            for line in path.read_text().splitlines():
                assert len(line) != 58 or line not in text
