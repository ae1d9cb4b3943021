"""The trust zones of a team as a file that nats-server's configuration includes.

It holds public keys only, so it may be read by anybody. The same zones and keys give the same bytes. A principal
without a key is left out: its zone is there, and nobody can log into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shanty_protocol.zones import ADMIN, SYSTEM_ACCOUNT, Grant, Zone, Zones, inbox_of

HEAD = """\
# Who may do what on the bus. Written by `shanty bus-auth`: change the team and write it again.
# Include it at the top level of nats-server's configuration; `nats-server --signal reload` takes it up.
"""


def render(zones: Zones, users: Mapping[str, str]) -> str:
    """The configuration. `users` has the public nkey of each principal, and of `admin` in the system account."""
    return "\n".join(
        (
            HEAD,
            f"system_account: {SYSTEM_ACCOUNT}",
            "",
            "accounts {",
            *_indented(_system(users)),
            "",
            *_indented(_control(zones, users)),
            *(line for guest in zones.guests for line in ("", *_indented(_guest(zones, guest, users)))),
            "}",
            "",
        )
    )


def _system(users: Mapping[str, str]) -> Iterator[str]:
    yield f"{SYSTEM_ACCOUNT} {{"
    yield "  # the server's own account: monitoring and reloads, no messages of a team"
    yield "  users: ["
    if ADMIN in users:
        yield f'    {{ nkey: "{users[ADMIN]}" }}  # {ADMIN}'
    yield "  ]"
    yield "}"


def _control(zones: Zones, users: Mapping[str, str]) -> Iterator[str]:
    yield f"{zones.control} {{"
    yield "  # holds the streams of the team"
    yield "  jetstream: enabled"
    yield "  users: ["
    for zone in zones.residents:
        yield from _indented(_user(zone, users), 4)
    yield "  ]"
    yield from _exports(zones, zones.control)
    yield "}"


def _guest(zones: Zones, zone: Zone, users: Mapping[str, str]) -> Iterator[str]:
    yield f"{zone.account} {{"
    yield "  users: ["
    yield from _indented(_user(zone, users), 4)
    yield "  ]"
    yield "  imports: ["
    for grant in zones.imports_of(zone):
        yield f"    # {grant.why}"
        kind = "stream" if grant.verb == "subscribe" else "service"
        yield f'    {{ {kind}: {{ account: {zones.source_of(grant)}, subject: "{grant.subject}" }} }}'
    yield "  ]"
    yield from _exports(zones, zone.account)
    yield "}"


def _user(zone: Zone, users: Mapping[str, str]) -> Iterator[str]:
    """The user again has no more than its zone: should the two ever differ, the smaller one holds."""
    if zone.principal not in users:
        yield f"# {zone.principal} has no key"
        return
    sent = [grant.subject for grant in zone.grants if grant.verb != "subscribe"]
    heard = [grant.subject for grant in zone.grants if grant.verb == "subscribe"]
    yield "{"
    yield f'  nkey: "{users[zone.principal]}"  # {zone.principal}'
    yield "  permissions: {"
    yield "    publish: {"
    yield "      allow: ["
    yield from (f'        "{subject}"' for subject in sent)
    yield "      ]"
    yield "    }"
    yield "    subscribe: {"
    yield "      allow: ["
    yield f'        "{inbox_of(zone.principal)}.>"'
    yield from (f'        "{subject}"' for subject in heard)
    yield "      ]"
    yield "    }"
    yield "  }"
    yield "}"


def _exports(zones: Zones, account: str) -> Iterator[str]:
    yield "  exports: ["
    for grant, importers in zones.exports_of(account):
        yield f"    # {grant.why}"
        yield f"    {{ {_exported(grant)}, accounts: [{', '.join(importers)}] }}"
    yield "  ]"


def _exported(grant: Grant) -> str:
    if grant.verb == "subscribe":
        return f'stream: "{grant.subject}"'
    response = "stream" if grant.answers == "many" else "singleton"
    return f'service: "{grant.subject}", response_type: {response}'


def _indented(lines: Iterator[str], by: int = 2) -> Iterator[str]:
    return (f"{' ' * by}{line}" if line else "" for line in lines)
