from __future__ import annotations

from shanty_cli.accounts_conf import render
from shanty_protocol.zones import ADMIN, Access, zones_of

ZONES = zones_of("crew", "lead", {"logs": Access()})
USERS = {name: f"U{name.upper()}" for name in (*(zone.principal for zone in ZONES.all), ADMIN)}


def account(conf: str, name: str) -> str:
    """The block of an account."""
    begin = conf.index(f"\n  {name} {{")
    return conf[begin : conf.index("\n  }\n", begin)]


def test_the_same_zones_and_keys_give_the_same_bytes_in_whatever_order_the_keys_are() -> None:
    assert render(ZONES, USERS) == render(ZONES, dict(reversed(USERS.items())))


def test_each_key_is_in_its_own_account_and_only_there() -> None:
    conf = render(ZONES, USERS)
    for zone in ZONES.all:
        assert conf.count(f'"{USERS[zone.principal]}"') == 1
        assert USERS[zone.principal] in account(conf, zone.account)
    assert USERS[ADMIN] in account(conf, "SYS")


def test_a_principal_without_a_key_keeps_its_account_and_has_no_user() -> None:
    conf = render(ZONES, {name: key for name, key in USERS.items() if name != "logs"})
    logs = account(conf, "CREW_LOGS")
    assert "nkey" not in logs and "permissions" not in logs
    assert "imports: [" in logs


def test_every_grant_is_exported_to_whom_it_is_for_and_says_why() -> None:
    conf = render(ZONES, USERS)
    for guest in ZONES.guests:
        for grant in ZONES.imports_of(guest):
            source = account(conf, ZONES.source_of(grant))
            exports = [
                line for line in source.splitlines() if f': "{grant.subject}"' in line and "accounts: [" in line
            ]
            assert any(guest.account in line for line in exports), (guest.account, grant.subject)
            assert f"# {grant.why}" in account(conf, guest.account)


def test_only_the_control_account_has_jetstream() -> None:
    conf = render(ZONES, USERS)
    assert conf.count("jetstream: enabled") == 1
    assert "jetstream: enabled" in account(conf, "CREW")
